import { z } from 'zod';
import { pem } from '../certificates/index.js';
import { parseAddress } from '../foundation/index.js';
import { act } from './act.js';

const nothing = z.strictObject({});

/** The organisation as a reader of every document. Who turns it on lets a quorum read what people encrypt from then on; who turns it off may lose documents. */
export const DOCUMENT_ACTS = {
  'documents.recovery-on': act({
    args: z.strictObject({ address: z.string().max(254) }),
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: async (house, args, by) => shown(await house.documentRecovery.begin(parseAddress(args.address), by)),
  }),
  'documents.recovery-off': act({
    args: nothing,
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: (house, _, by) => house.documentRecovery.end(by),
  }),
  'documents.recovery': act({
    args: nothing,
    roles: ['operator', 'security-officer', 'auditor', 'recovery-agent'],
    perform: async (house) => {
      const found = await house.documentRecovery.standing();
      return found ? shown(found) : { state: 'off' };
    },
  }),
} as const;

const shown = ({ employee, address, certificate }: { employee: string; address: string; certificate: Buffer | undefined }) => ({
  ...{ state: certificate ? 'on' : 'waiting', employee, address },
  certificate: certificate ? pem(certificate) : null,
});
