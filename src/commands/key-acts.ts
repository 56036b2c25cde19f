import { z } from 'zod';
import { KEY_REASONS } from '../custody/index.js';
import { act } from './act.js';
import { employeeOf } from './employee-of.js';

const who = z.string().max(254);
/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);

/** The lives of keys. */
export const KEY_ACTS = {
  'key.change': act({
    args: z.strictObject({
      id,
      state: z.enum(['active', 'suspended', 'deactivated', 'compromised', 'destroyed']),
      reason: z.enum(KEY_REASONS).default('other'),
    }),
    roles: ['operator'],
    // Everything else can be taken back.
    danger: ({ state }) => (state === 'destroyed' ? 'two-persons' : undefined),
    perform: (house, { id, state, reason }, by) => house.lives.setState(id, state, reason, by),
  }),
  'key.list': act({
    args: z.strictObject({ who }),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house, args) => house.lives.of(await employeeOf(house, args.who)),
  }),
  'hold.place': act({
    args: z.strictObject({
      who,
      reference: z
        .string()
        .max(80)
        .regex(/^[\x20-\x7e]*$/),
    }),
    roles: ['operator', 'security-officer'],
    perform: async (house, args, by) => house.lives.hold(await employeeOf(house, args.who), args.reference, by),
  }),
  // Placing one keeps; lifting one lets what it kept be destroyed.
  'hold.lift': act({
    args: z.strictObject({ id }),
    roles: ['operator', 'security-officer'],
    danger: 'two-persons',
    perform: (house, args, by) => house.lives.lift(args.id, by),
  }),
} as const;
