import { z } from 'zod';
import { shapes } from '../foundation/index.js';
import { decryptionRequest, receipt } from '../keys/index.js';

export const openCase = z
  .object({
    id: shapes.id,
    expiresAt: z.string().meta({ format: 'date-time' }),
    message: z.string().nullable().meta({ description: 'SHA-256, base64url, of the encrypted key of the one mail that it is about.' }),
    reading: z.boolean().meta({ description: 'Any message of the person until then, one content key at a time.' }),
    approvals: z.int().min(0),
    quorum: z.int().min(2),
    keys: z.array(
      z.object({
        id: shapes.id,
        suite: z.string(),
        state: z.string(),
        certificates: z.array(z.string()).meta({ description: 'PEM: every leaf of this key, newest first, then the issuing authority.' }),
      }),
    ),
  })
  .meta({ id: 'RecoveryCase' });

export const openRequest = z
  .strictObject({ key: shapes.id, mail: decryptionRequest.optional().meta({ description: 'Of the one mail that the case is about.' }) })
  .meta({ id: 'RecoveryOpening' });

export const recovered = z
  .object({
    delivery: z
      .string()
      .nullable()
      .meta({ contentEncoding: 'base64', description: 'CMS EnvelopedData for this device; null for one mail.' }),
    wrapped: z.string().nullable().meta({
      contentEncoding: 'base64',
      description: 'RSA-OAEP of the mail’s content-encryption key under the delivery key; null for a whole key.',
    }),
    hash: z.enum(['sha1', 'sha256']).nullable(),
    receipt,
  })
  .meta({ id: 'Recovered' });
