import { z } from 'zod';
import type { BreakGlassCase } from '../administration/index.js';
import { Fault } from '../foundation/index.js';
import { act } from './act.js';

const shownCase = ({ id, officers, begun, opens, closes }: BreakGlassCase) => ({
  ...{ id, officers },
  begunAt: new Date(begun).toISOString(),
  opensAt: new Date(opens).toISOString(),
  closesAt: new Date(closes).toISOString(),
});

const nothing = z.strictObject({});
const officer = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(80)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u),
  address: z.string().max(254),
});

/** No act of these takes two persons: there are not two. Each is told to everybody, and it takes days. */
export const BREAK_GLASS_ACTS = {
  'break-glass.begin': act({
    args: z.strictObject({ officers: z.array(officer).min(1).max(2) }),
    roles: [],
    perform: async (house, { officers }, by) => shownCase(await house.breakGlass.begin(officers, by)),
  }),
  'break-glass.show': act({
    args: nothing,
    roles: ['security-officer', 'operator', 'auditor', 'recovery-agent'],
    perform: async (house) => {
      const waiting = await house.breakGlass.waiting();
      if (!waiting) throw new Fault('not-found', 'break-glass-none', 'the glass is not being broken');
      return shownCase(waiting);
    },
  }),
  'break-glass.cancel': act({
    args: nothing,
    roles: ['security-officer', 'operator', 'auditor', 'recovery-agent'],
    perform: (house, _, by) => house.breakGlass.cancel(by),
  }),
  'break-glass.open': act({ args: nothing, roles: [], perform: (house, _, by) => house.breakGlass.open(by) }),
} as const;
