import { Fault, isId, parseAddress } from '../foundation/index.js';
import type { House } from '../house.js';

/** Who an operator means: by an address that is theirs now, or by the employee id, which stays when addresses end. Throws `binding-unknown`, `employee-unknown`. */
export async function employeeOf(house: House, text: string): Promise<string> {
  if (isId(text)) {
    if (await house.storage.one('SELECT id FROM employees WHERE id = ?', [text])) return text;
    throw new Fault('not-found', 'employee-unknown', 'there is no such employee');
  }
  const binding = await house.employees.bindingOf(parseAddress(text).key);
  if (!binding) throw new Fault('not-found', 'binding-unknown', `${text} is not bound to anybody here`);
  return binding.sealed.record.employee;
}
