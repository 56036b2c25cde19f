import { z } from 'zod';
import { transferredKey } from '../custody/index.js';
import { base64url, Fault, sha256, shapes } from '../foundation/index.js';
import { TRANSFER_REASONS } from '../tokens/index.js';
import { act } from './act.js';
import { employeeOf } from './employee-of.js';
import { approval, approvalOf } from './recovery-acts.js';
import { rootIn, verifyTransfer } from './transfer-file.js';

/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);
/** SHA-256, base64url. */
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const owners = z.array(z.tuple([z.string().max(254), z.string().max(254)])).max(20_000);

/**
 * Keys to and from other appliances. For each key that leaves, and for each that comes in and whose it becomes, the token process demands the agents' own
 * signatures, whoever asks.
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
  // Taking away is done at once, by one person.
  'transfer.end': act({
    args: z.strictObject({ transfer: id }),
    roles: ['recovery-agent', 'security-officer', 'operator'],
    perform: (house, { transfer }, by) => house.transfers.end(transfer, by),
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
    args: z.strictObject({ transfer: id, digest, keys: z.int().min(0) }),
    roles: ['recovery-agent'],
    perform: (house, { transfer, ...of }, by) => house.transfers.close(transfer, of, by),
  }),
  'transfer.key': act({ args: z.strictObject({}), roles: ['operator'], perform: (house, _, by) => house.transferKeys.make(by) }),
  // Whose the keys of a file become no one person says: the token process demands the agents' signatures. The file is read here, so that what they are shown is what its sender signed.
  'transfer.accept': act({
    args: z.strictObject({ path: z.string().max(4_096), file: digest, sender: digest, root: shapes.base64(20_000), owners }),
    roles: ['operator'],
    perform: async (house, { path, file, sender, root, owners: named }, by) => {
      const what = { file, root: sender, owners: named };
      const standing = await house.acceptedTransfers.standing(what);
      if (standing) return standing;
      const read = await verifyTransfer(path, root, new Map(named)).catch((error: NodeJS.ErrnoException) => {
        if (!error.syscall) throw error;
        throw new Fault(
          'conflict',
          'transfer-file-unreadable',
          `the appliance cannot read ${path} (${error.code}): put it into its home folder`,
        );
      });
      if (base64url(sha256(rootIn(root))) !== sender)
        throw new Fault('malformed', 'certificate-malformed', 'this is not the root of that SHA-256');
      if (read.file !== file)
        throw new Fault('conflict', 'transfer-file-other', 'this is not the file that was asked for: it was changed since');
      return house.acceptedTransfers.file(what, read.lines, by);
    },
  }),
  'transfer.take': act({
    args: z.strictObject({ acceptance: id, line: z.string().max(2_000_000) }),
    roles: ['operator'],
    perform: async (house, { acceptance, line }, by) => house.imports.receive(await house.acceptedTransfers.keyOf(acceptance, line), by),
  }),
  /** Says what would become of a key, and does nothing. */
  'transfer.preview': act({
    args: z.strictObject({ key: transferredKey, owner: z.string().max(254).optional() }),
    roles: ['operator'],
    perform: (house, ask, by) => house.imports.receive(ask, by),
  }),
} as const;
