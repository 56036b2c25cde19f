import { z } from 'zod';
import { type PolicyVersion, readPolicy } from '../access/index.js';
import { act } from './act.js';

const nothing = z.strictObject({});
const from = z.string().max(64).optional();

const withTimes = <T extends PolicyVersion>(version: T) => ({
  ...version,
  created: new Date(version.created).toISOString(),
  confirmBy: version.confirmBy === null ? null : new Date(version.confirmBy).toISOString(),
});

/** Acts on the network policy. */
export const POLICY_ACTS = {
  'policy.show': act({
    args: nothing,
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house) => {
      await house.networks.refresh();
      return withTimes(house.networks.inForce);
    },
  }),
  'policy.history': act({
    args: nothing,
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house) => (await house.networks.history(100)).map(withTimes),
  }),
  'policy.check': act({
    args: z.strictObject({ document: z.unknown(), from }),
    roles: ['operator', 'security-officer'],
    from: true,
    perform: async (house, { document, from }) => {
      await house.networks.refresh();
      return house.networks.check(document, from);
    },
  }),
  'policy.set': act({
    args: z.strictObject({ document: z.unknown(), from }),
    roles: ['security-officer'],
    from: true,
    // What cannot be used is not even asked for.
    danger: ({ document }) => {
      readPolicy(document);
      return 'two-persons';
    },
    perform: async (house, { document, from }, by) => withTimes(await house.networks.set(document, by, from)),
  }),
  'policy.confirm': act({
    args: z.strictObject({ version: z.int().min(1), from }),
    roles: ['security-officer'],
    from: true,
    perform: async (house, { version, from }, by) => withTimes(await house.networks.confirm(version, by, from)),
  }),
} as const;
