import type { Employees } from '../access/index.js';
import { askedOutside, type Directory, mailAddress } from '../directory/index.js';
import { type Address, Fault, type Storage } from '../foundation/index.js';

/** Whether whoever proves an address is somebody of this organisation now. */
export class Membership {
  constructor(
    private readonly storage: Storage,
    private readonly employees: Employees,
    private readonly domains: readonly string[],
    /** Where there is one, and who is not in it may not sign in. */
    private readonly directory: Directory | undefined,
  ) {}

  /** Rejects with `sign-in-refused`, whatever is missing, or with the directory's outage. */
  async require(address: Address): Promise<void> {
    if (!(await this.#isMember(address))) throw refused();
  }

  async #isMember(address: Address): Promise<boolean> {
    const binding = await this.employees.bindingOf(address.key);
    const person =
      binding &&
      (await this.storage.one<{ state: string; mode: string | null }>('SELECT state, mode FROM employees WHERE id = ?', [
        binding.sealed.record.employee,
      ]));
    const entries = this.directory ? await askedOutside(this.directory.byAddress(address)) : undefined;
    const isListed =
      entries === undefined ||
      entries.some(({ active, addresses }) => active && addresses.some((text) => mailAddress(text)?.key === address.key));
    return this.domains.includes(address.domain) && person?.state !== 'stopped' && person?.mode !== 'quorum' && isListed;
  }
}

/** One refusal for every reason: who is not let in learns nothing of who is. */
export const refused = (): Fault =>
  new Fault('forbidden', 'sign-in-refused', 'this did not sign you in; look at what you typed, or begin again');
