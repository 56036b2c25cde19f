import { z } from 'zod';
import { shapes } from '../foundation/index.js';
import { act } from './act.js';

/** Bytes of a PKCS#12 file: hundreds of keys with their certificates. */
const MOST_FILE = 2 ** 20;

/** Former keys from outside. It gives nobody anything but the owner, so one operator does it; what they say of owners is in the log. */
export const IMPORT_ACTS = {
  'key.import': act({
    args: z.strictObject({
      file: shapes.base64(MOST_FILE),
      phrase: z.string().max(1_024),
      owner: z.string().max(254).optional(),
      dryRun: z.boolean(),
    }),
    roles: ['operator'],
    perform: (house, ask, by) => house.imports.take(ask, by),
  }),
} as const;
