import { z } from 'zod';
import { ROLES } from '../foundation/index.js';
import { act } from './act.js';

/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);

/** Administrators and their roles. */
export const ADMIN_ACTS = {
  'admin.invite': act({
    args: z.strictObject({
      name: z.string().min(1).max(80).optional(),
      address: z.string().max(254).optional(),
      role: z.enum(ROLES).optional(),
    }),
    roles: ['operator', 'security-officer'],
    perform: (house, args, by) => house.invitations.invite(args, by),
  }),
  'admin.list': act({ args: z.strictObject({}), roles: [...ROLES], perform: (house) => house.administrators.list() }),
  'admin.role': act({
    args: z.strictObject({ id, role: z.enum(ROLES).nullable() }),
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: (house, args, by) => house.administrators.setRole(args.id, args.role, by),
  }),
  'admin.remove': act({
    args: z.strictObject({ id }),
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: (house, args, by) => house.administrators.remove(args.id, by),
  }),
  'admin.renew': act({
    args: z.strictObject({ id }),
    roles: ['security-officer'],
    danger: 'two-persons',
    collected: true,
    perform: (house, args, by) => house.invitations.renew(args.id, by),
  }),
} as const;
