import { z } from 'zod';
import { parseAddress } from '../foundation/index.js';
import { act } from './act.js';
import { employeeOf } from './employee-of.js';

const who = z.string().max(254);
const member = z.strictObject({ mailbox: who, who });

/** Mailboxes that several people read. */
export const MAILBOX_ACTS = {
  'mailbox.create': act({
    args: z.strictObject({ address: who, mode: z.enum(['deliver', 'remote']).optional() }),
    roles: ['operator'],
    perform: async (house, { address, mode }, by) => {
      const { key, shown } = parseAddress(address);
      const mailbox = await house.mailboxes.create({ key, shown }, by, async (unit, employee) => {
        if (mode) await unit.run('UPDATE employees SET mode = ? WHERE id = ?', [mode, employee]);
        await house.issuance.wait(unit, employee);
      });
      await house.issuance.serveWaiting();
      return { mailbox };
    },
  }),
  // Who is let in reads all that ever came.
  'mailbox.add': act({
    args: member,
    roles: ['operator', 'security-officer'],
    danger: 'two-persons',
    perform: async (house, args, by) => house.mailboxes.add(await employeeOf(house, args.mailbox), await employeeOf(house, args.who), by),
  }),
  // Taking away is done at once.
  'mailbox.remove': act({
    args: member,
    roles: ['operator', 'security-officer'],
    perform: async (house, args, by) =>
      house.mailboxes.remove(await employeeOf(house, args.mailbox), await employeeOf(house, args.who), by),
  }),
  'mailbox.members': act({
    args: z.strictObject({ mailbox: who }),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house, args) => house.mailboxes.membersOf(await employeeOf(house, args.mailbox)),
  }),
} as const;
