import { z } from 'zod';
import { rootFixed } from '../custody/index.js';
import { AUTHORITY_NAMES } from '../tokens/index.js';
import { act } from './act.js';

/** The certificate authorities: another generation of one, and the end of a former one. */
export const AUTHORITY_ACTS = {
  'ca.list': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: (house) => house.authorityRetirement.list(),
  }),
  'ca.rotate': act({
    args: z.strictObject({ name: z.enum(AUTHORITY_NAMES) }),
    roles: ['operator'],
    danger: 'two-persons',
    perform: (house, { name }, by) => {
      if (name === 'root') throw rootFixed();
      return house.tokenKeys.rotate(name, by);
    },
  }),
  'ca.retire': act({
    args: z.strictObject({ id: z.string().regex(/^[a-z]{1,20}(-[1-9]\d{0,5})?$/), revoke: z.boolean().default(false) }),
    roles: ['operator'],
    danger: 'two-persons',
    perform: (house, { id, revoke }, by) => house.authorityRetirement.retire(id, revoke, by),
  }),
} as const;
