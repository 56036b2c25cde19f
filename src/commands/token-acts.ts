import { z } from 'zod';
import { destroyFormer } from '../custody/index.js';
import { Fault } from '../foundation/index.js';
import { RETIRED, SUCCESSORS } from '../tokens/index.js';
import { placeInService } from '../wiring/token-place.js';
import { act } from './act.js';

const named = z.strictObject({ name: z.enum(SUCCESSORS) });

/** The keys of the appliance itself. */
export const TOKEN_ACTS = {
  'token.keys': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: (house) => house.tokenKeys.list(),
  }),
  'token.rotate': act({
    args: named,
    roles: ['operator'],
    danger: 'two-persons',
    perform: (house, { name }, by) => house.tokenKeys.rotate(name, by),
  }),
  'token.retire': act({
    args: z.strictObject({ name: z.enum(RETIRED) }),
    roles: ['operator'],
    danger: 'two-persons',
    perform: (house, { name }, by) => house.tokenKeys.retire(name, by),
  }),
  'token.destroy-former': act({
    args: z.strictObject({}),
    roles: ['operator'],
    danger: 'two-persons',
    perform: (house, _, by) => destroyFormer({ ...house, present: placeInService(house.configuration) }, by),
  }),
  // New keys for what serves now: nothing is taken from anybody.
  'tls.renew': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer'],
    perform: async (house, _, by) => {
      if (!house.tls.renew) throw new Fault('conflict', 'nothing-served', 'no appliance is up: it makes new TLS keys when it starts');
      await house.tls.renew();
      await house.storage.write((unit) => house.audit.append(unit, { action: 'tls.renew', outcome: 'done', actor: by }));
    },
  }),
} as const;
