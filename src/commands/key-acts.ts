import { z } from 'zod';
import { KEY_REASONS } from '../custody/index.js';
import { Fault } from '../foundation/index.js';
import type { Suite } from '../tokens/index.js';
import { act } from './act.js';
import { employeeOf } from './employee-of.js';

const who = z.string().max(254);
/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);

/** Kinds of keys that may be asked for; whether the token makes them is its word. */
const KINDS = ['rsa-2048', 'rsa-3072', 'rsa-4096', 'sm2'] as const;
export type KindName = (typeof KINDS)[number];

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
  'key.renew': act({
    args: z.strictObject({ who }),
    roles: ['operator'],
    perform: async (house, args, by) => house.renewal.renew(await employeeOf(house, args.who), by),
  }),
  'key.kind': act({
    args: z
      .strictObject({
        kind: z.enum(KINDS),
        people: z.array(who).max(10_000).default([]),
        group: z.string().max(100).optional(),
        everybody: z.boolean().default(false),
      })
      .refine(({ people, group, everybody }) => [people.length > 0, group !== undefined, everybody].filter(Boolean).length === 1, {
        message: 'people, a group, or everybody: one of these',
      }),
    roles: ['operator'],
    // What is weaker than the default is nobody's own decision.
    danger: ({ kind }) => (kind === 'rsa-2048' ? 'two-persons' : undefined),
    perform: async (house, { kind, people, group, everybody }, by) => {
      const named = group === undefined ? people : house.configuration.documents.groups[group];
      if (!named) throw new Fault('not-found', 'group-unknown', `documents.groups in ekms.yaml has no group "${group}"`);
      const whom = everybody ? undefined : await Promise.all(named.map((one) => employeeOf(house, one)));
      const [suite = 'rsa', bits = '256'] = kind.split('-') as [Suite, string?]; // KINDS are of this form
      const count = await house.renewal.setKind({ suite, bits: Number(bits) }, whom, by);
      // Here or beside a running appliance alike: what is due is done in the background, or by the next round.
      void house.renewal.run().catch(() => undefined);
      return { people: count, due: (await house.renewal.due()).kinds };
    },
  }),
  'key.due': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: (house) => house.renewal.due(),
  }),
  'key.list': act({
    args: z.strictObject({ who }),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house, args) => house.lives.of(await employeeOf(house, args.who)),
  }),
  // Those who adopt it agree to every destruction by it.
  'retention.adopt': act({
    args: z.strictObject({ years: z.int().min(0).max(100) }),
    roles: ['operator', 'security-officer'],
    danger: 'two-persons',
    perform: (house, { years }, by) => house.lives.adoptRetention(years, by),
  }),
  'retention.show': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: (house) => house.lives.retention(),
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
