import { z } from 'zod';
import { act } from './act.js';

const identifier = z.string().max(64);

/** Machines that an organisation names before they enrol. */
export const REGISTRATION_ACTS = {
  'device.register': act({
    args: z.strictObject({
      entries: z
        .array(z.strictObject({ identifier, address: z.string().max(254) }))
        .min(1)
        .max(500),
    }),
    roles: ['operator'],
    perform: (house, { entries }, by) => house.registered.add(entries, by),
  }),
  'device.unregister': act({
    args: z.strictObject({ identifier, devices: z.boolean().default(false) }),
    roles: ['operator', 'security-officer'],
    perform: (house, args, by) => house.registered.remove(args.identifier, args.devices, by),
  }),
  'device.registered': act({
    args: z.strictObject({}),
    roles: ['operator', 'security-officer', 'auditor'],
    perform: (house) => house.registered.list(),
  }),
};
