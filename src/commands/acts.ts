import { userInfo } from 'node:os';
import { type AuditActor, Fault, parseAddress } from '../foundation/index.js';
import type { House } from '../house.js';
import type { KeyMode, KeyState } from '../tokens/index.js';
import { examine } from './doctor.js';

/** Whoever may enter the home folder is the operator; until officers exist (bootstrap) single acts are allowed and marked by this actor. */
const operator = (): AuditActor => ({ kind: 'operator', id: userInfo().username });

async function employeeOf(house: House, address: string): Promise<string> {
  const binding = await house.employees.bindingOf(parseAddress(address).key);
  if (!binding) throw new Fault('not-found', 'binding-unknown', `${address} is not bound to anybody here`);
  return binding.sealed.record.employee;
}

/** What the operator can have done, by the running appliance or, when none is up, by the command itself. Arguments and results are JSON. */
export const ACTS = {
  'app.issue': (house: House, { platform }: { platform: string }) => house.apps.issue(platform, operator()),
  'app.revoke': (house: House, { id }: { id: string }) => house.apps.revoke(id, operator()),
  'app.list': (house: House) => house.apps.list(),
  'pool.fill': async (house: House, { count }: { count: number }) => {
    const level = await house.pool.fill(count);
    await house.storage.write((unit) =>
      house.audit.append(unit, { action: 'pool.fill', outcome: 'done', actor: operator(), facts: { level } }),
    );
    await house.issuance.serveWaiting();
    return { level };
  },
  'enrolment.list': async (house: House) =>
    (await house.desk.waiting()).map(({ sealed, shown, platform, name, waitsFor }) => ({
      id: sealed.record.id,
      address: shown,
      platform,
      name,
      waitsFor,
    })),
  'enrolment.decide': (house: House, { id, approve }: { id: string; approve: boolean }) => house.desk.approve(id, approve, operator()),
  'employee.stop': async (house: House, { address }: { address: string }) =>
    house.employees.stop(await employeeOf(house, address), operator()),
  'employee.resume': async (house: House, { address }: { address: string }) =>
    house.employees.resume(await employeeOf(house, address), operator()),
  'binding.end': (house: House, { address }: { address: string }) =>
    house.replacement.releaseAddress(parseAddress(address).key, operator()),
  'device.list': async (house: House, { address }: { address: string }) => house.registry.ofEmployee(await employeeOf(house, address)),
  'device.revoke': (house: House, { id }: { id: string }) => house.registry.end(id, 'revoked', operator()),
  'key.change': (house: House, { id, state }: { id: string; state: KeyState }) => house.replacement.setState(id, state, operator()),
  'key.replace': async (house: House, { address, because }: { address: string; because: 'superseded' | 'compromised' }) =>
    house.replacement.replace(await employeeOf(house, address), because, operator()),
  'employee.mode': async (house: House, { address, mode }: { address: string; mode: KeyMode }) =>
    house.replacement.setMode(await employeeOf(house, address), mode, operator()),
  'audit.tail': async (house: House, { count }: { count: number }) =>
    (await house.auditReader.latest(count)).map(({ body, personal }) => ({ ...body, personal })),
  doctor: (house: House, args: { data: boolean }) => examine(house, args),
  health: (house: House) => house.health.report(),
} as const;
export type ActName = keyof typeof ACTS;
