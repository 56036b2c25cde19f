import { z } from 'zod';
import type { DirectorySync } from '../directory/index.js';
import { Fault, parseAddress } from '../foundation/index.js';
import type { House } from '../house.js';
import { act } from './act.js';

function syncOf({ directorySync }: House): DirectorySync {
  if (!directorySync)
    throw new Fault(
      'misconfigured',
      'directory-none',
      'ekms.yaml names no directory: see "People from your directory" in the operator’s guide',
    );
  return directorySync;
}

/** Acts on people as the organisation's directory has them. */
export const DIRECTORY_ACTS = {
  'directory.preview': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer'],
    perform: (house) => syncOf(house).preview(),
  }),
  'directory.sync': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer'],
    perform: (house, _, by) => syncOf(house).run(undefined, by),
  }),
  // Many people at once would lose what they have: the guard has stopped this, and one person alone does not lift it.
  'directory.confirm': act({
    args: z.strictObject({ digest: z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be the digest that the dry run prints') }),
    roles: ['operator', 'security-officer'],
    danger: 'two-persons',
    perform: (house, { digest }, by) => syncOf(house).run(digest, by),
  }),
  'employee.owners': act({
    args: z.strictObject({ address: z.string().max(254) }),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house, { address }) =>
      (await house.employees.ownersOf(parseAddress(address).key)).map(({ from, to, ...owner }) => ({
        ...owner,
        from: new Date(from).toISOString(),
        to: to === null ? null : new Date(to).toISOString(),
      })),
  }),
  // It opens one person's history to whoever has the address now.
  'employee.join': act({
    args: z.strictObject({ address: z.string().max(254), former: z.string().max(64) }),
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: (house, { address, former }, by) => house.replacement.join(parseAddress(address).key, former, by),
  }),
} as const;
