import { z } from 'zod';
import { transferredKey } from '../custody/index.js';
import { shapes } from '../foundation/index.js';
import { TRANSFER_REASONS } from '../tokens/index.js';
import { act } from './act.js';
import { employeeOf } from './employee-of.js';
import { approval, approvalOf } from './recovery-acts.js';

/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);

/**
 * Keys to and from other appliances. None of these is 'two-persons' by itself: the token process demands the agents' own signatures for each key that
 * leaves, whoever asks; and what comes in gives nobody anything but the owner.
 */
export const TRANSFER_ACTS = {
  'transfer.file': act({
    args: z.strictObject({
      recipient: shapes.base64(4_000),
      people: z.array(z.string().max(254)).min(1).max(200).optional(),
      reason: z.enum(TRANSFER_REASONS),
      reference: z.string().max(80),
      days: z.int(),
    }),
    roles: ['recovery-agent'],
    perform: async (house, { people, ...ask }, by) => {
      const employees = people && [...new Set(await Promise.all(people.map((who) => employeeOf(house, who))))];
      return house.transfers.file({ ...ask, employees }, by);
    },
  }),
  'transfer.approve': act({
    args: z.strictObject({ transfer: id, by: approval }),
    roles: ['recovery-agent'],
    perform: async (house, { transfer, by: given }, by) => house.transfers.approve(transfer, await approvalOf(house, given), by),
  }),
  'transfer.list': act({
    args: z.strictObject({}),
    roles: ['recovery-agent', 'auditor'],
    perform: (house) => house.transfers.list(),
  }),
  'transfer.head': act({
    args: z.strictObject({ transfer: id }),
    roles: ['recovery-agent'],
    perform: (house, { transfer }) => house.transfers.head(transfer),
  }),
  'transfer.page': act({
    args: z.strictObject({ transfer: id, after: id.optional() }),
    roles: ['recovery-agent'],
    perform: (house, { transfer, after }, by) => house.transfers.page(transfer, after, by),
  }),
  'transfer.close': act({
    args: z.strictObject({ transfer: id, digest: z.string().regex(/^[A-Za-z0-9_-]{43}$/), keys: z.int().min(0) }),
    roles: ['recovery-agent'],
    perform: (house, { transfer, ...of }, by) => house.transfers.close(transfer, of, by),
  }),
  'transfer.key': act({ args: z.strictObject({}), roles: ['operator'], perform: (house, _, by) => house.transferKeys.make(by) }),
  'transfer.take': act({
    args: z.strictObject({ key: transferredKey, owner: z.string().max(254).optional(), dryRun: z.boolean() }),
    roles: ['operator'],
    perform: (house, ask, by) => house.imports.receive(ask, by),
  }),
} as const;
