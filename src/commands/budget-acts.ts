import { z } from 'zod';
import { act } from './act.js';

const id = z.string().max(64);

/** Acts on what budgets have stopped. */
export const BUDGET_ACTS = {
  'budget.frozen': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: async (house) =>
      (await house.budgets.frozen()).map(({ since, ...rest }) => ({ ...rest, since: new Date(since).toISOString() })),
  }),
  'budget.unfreeze-device': act({
    args: z.strictObject({ id }),
    roles: ['operator', 'security-officer'],
    perform: (house, args, by) => house.budgets.unfreeze('device', args.id, by),
  }),
  // All of a person's devices, where no single one of them explained the excess.
  'budget.unfreeze-person': act({
    args: z.strictObject({ id }),
    roles: ['operator', 'security-officer'],
    danger: 'two-persons',
    perform: (house, args, by) => house.budgets.unfreeze('person', args.id, by),
  }),
} as const;
