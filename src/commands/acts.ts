import { z } from 'zod';
import { Fault, parseAddress } from '../foundation/index.js';
import { act, type RequestActName } from './act.js';
import { ADMIN_ACTS } from './admin-acts.js';
import { AUDIT_ACTS } from './audit-acts.js';
import { AUTHORITY_ACTS } from './authority-acts.js';
import { BREAK_GLASS_ACTS } from './break-glass-acts.js';
import { BUDGET_ACTS } from './budget-acts.js';
import { CUSTODIAN_ACTS } from './custodian-acts.js';
import { DIRECTORY_ACTS } from './directory-acts.js';
import { examine } from './doctor.js';
import { DOCUMENT_ACTS } from './document-acts.js';
import { employeeOf } from './employee-of.js';
import { FIREWALL_ACTS } from './firewall-acts.js';
import { IMPORT_ACTS } from './import-acts.js';
import { KEY_ACTS } from './key-acts.js';
import { MAILBOX_ACTS } from './mailbox-acts.js';
import { POLICY_ACTS } from './policy-acts.js';
import { RECOVERY_ACTS } from './recovery-acts.js';
import { REGISTRATION_ACTS } from './registration-acts.js';
import { TOKEN_ACTS } from './token-acts.js';
import { TRANSFER_ACTS } from './transfer-acts.js';

const address = z.string().max(254);
/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);
const nothing = z.strictObject({});

/** The one table of operator acts. The control socket, the command line and the administration listener all go by it. */
export const ACTS = {
  'app.issue': act({
    args: z.strictObject({ platform: z.string().max(64), release: z.string().max(64).optional() }),
    roles: ['operator'],
    danger: 'two-persons',
    collected: true,
    perform: (house, { platform, release }, by) => house.apps.issue(platform, by, release),
  }),
  // Taking away is done at once: a credential that leaked does not wait for a second person.
  'app.revoke': act({
    args: z.strictObject({ id, devices: z.boolean().default(false) }),
    roles: ['operator', 'security-officer'],
    perform: async (house, { id, devices }, by) => {
      await house.apps.revoke(id, by, devices);
      return devices ? { devices: await house.registry.endAllOf(id, by) } : undefined;
    },
  }),
  'app.list': act({ args: nothing, roles: ['operator', 'security-officer', 'auditor'], perform: (house) => house.apps.list() }),
  'pool.fill': act({
    args: z.strictObject({ count: z.int().min(0).max(9_999_999) }),
    roles: ['operator'],
    perform: async (house, { count }, by) => {
      const level = await house.pool.fill(count);
      await house.storage.write((unit) => house.audit.append(unit, { action: 'pool.fill', outcome: 'done', actor: by, facts: { level } }));
      await house.issuance.serveWaiting();
      return { level };
    },
  }),
  'enrolment.list': act({
    args: nothing,
    roles: ['operator', 'security-officer'],
    perform: async (house) =>
      (await house.desk.waiting()).map(({ sealed, shown, platform, name, waitsFor }) => ({
        id: sealed.record.id,
        address: shown,
        platform,
        name,
        waitsFor,
      })),
  }),
  'enrolment.decide': act({
    args: z.strictObject({ id, approve: z.boolean() }),
    roles: ['operator', 'security-officer'],
    perform: (house, { id, approve }, by) => house.desk.approve(id, approve, by),
  }),
  'employee.stop': act({
    args: z.strictObject({ address }),
    roles: ['operator', 'security-officer'],
    perform: async (house, args, by) => house.employees.stop(await employeeOf(house, args.address), by),
  }),
  'employee.resume': act({
    args: z.strictObject({ address }),
    roles: ['operator'],
    perform: async (house, args, by) => house.employees.resume(await employeeOf(house, args.address), by),
  }),
  'binding.end': act({
    args: z.strictObject({ address }),
    roles: ['operator'],
    perform: async (house, args, by) => {
      const { key } = parseAddress(args.address);
      // What takes two persons to turn off is not turned off by one this way.
      if (await house.employees.isReserved(key))
        throw new Fault('conflict', 'address-reserved', 'this is the recovery reader of documents: ekms recovery documents off');
      return house.replacement.releaseAddress(key, by);
    },
  }),
  'device.list': act({
    args: z.strictObject({ address }),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house, args) => house.registry.ofEmployee(await employeeOf(house, args.address)),
  }),
  'device.revoke': act({
    args: z.strictObject({ id }),
    roles: ['operator', 'security-officer'],
    perform: (house, { id }, by) => house.registry.end(id, 'revoked', by),
  }),
  'key.replace': act({
    args: z.strictObject({ address, because: z.enum(['superseded', 'compromised']) }),
    roles: ['operator'],
    perform: async (house, args, by) => house.replacement.replace(await employeeOf(house, args.address), args.because, by),
  }),
  'employee.mode': act({
    args: z.strictObject({ address, mode: z.enum(['deliver', 'remote']) }),
    roles: ['operator'],
    perform: async (house, args, by) => house.replacement.setMode(await employeeOf(house, args.address), args.mode, by),
  }),
  ...REGISTRATION_ACTS,
  ...DIRECTORY_ACTS,
  ...AUDIT_ACTS,
  ...BUDGET_ACTS,
  ...POLICY_ACTS,
  ...FIREWALL_ACTS,
  ...ADMIN_ACTS,
  ...BREAK_GLASS_ACTS,
  'audit.tail': act({
    args: z.strictObject({ count: z.int().min(0).max(9_999_999) }),
    roles: ['auditor'],
    perform: async (house, { count }) => (await house.auditReader.latest(count)).map(({ body, personal }) => ({ ...body, personal })),
  }),
  'backup.create': act({
    args: z.strictObject({ full: z.boolean().default(false) }),
    roles: ['operator'],
    perform: (house, how, by) => house.backups.create(by, how),
  }),
  'backup.list': act({ args: nothing, roles: ['operator', 'security-officer', 'auditor'], perform: (house) => house.backups.list() }),
  'backup.verify': act({
    args: z.strictObject({ file: z.string().max(4_096), bases: z.array(z.string().max(4_096)).max(100).default([]) }),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: (house, { file, bases }) => house.backups.verify(file, bases),
  }),
  'kek.rotate': act({ args: nothing, roles: ['operator'], danger: 'two-persons', perform: (house, _, by) => house.rotation.rotate(by) }),
  'kek.status': act({ args: nothing, roles: ['operator', 'security-officer', 'auditor'], perform: (house) => house.rotation.status() }),
  'kek.retire': act({ args: nothing, roles: ['operator'], danger: 'two-persons', perform: (house, _, by) => house.rotation.retire(by) }),
  ...RECOVERY_ACTS,
  ...TRANSFER_ACTS,
  ...CUSTODIAN_ACTS,
  ...IMPORT_ACTS,
  ...KEY_ACTS,
  ...TOKEN_ACTS,
  ...AUTHORITY_ACTS,
  ...DOCUMENT_ACTS,
  ...MAILBOX_ACTS,
  'custody.drilled': act({
    args: z.strictObject({ backup: id, keys: z.int().min(0), entries: z.int().min(0), seconds: z.int().min(0), problems: z.int().min(0) }),
    roles: ['operator'],
    perform: (house, { backup, ...facts }, by) => house.backups.drilled(backup, facts, by),
  }),
  doctor: act({
    args: z.strictObject({ data: z.boolean() }),
    roles: ['operator', 'auditor'],
    perform: (house, args) => examine(house, args),
  }),
  health: act({
    args: nothing,
    roles: ['operator', 'security-officer', 'auditor', 'recovery-agent'],
    perform: (house) => house.health.report(),
  }),
} as const;
export type ActName = keyof typeof ACTS | RequestActName;
