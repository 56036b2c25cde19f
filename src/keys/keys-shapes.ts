import { z } from 'zod';
import { shapes } from '../foundation/index.js';

/** docs/formats/delivery.md as shapes: what is parsed, and what is promised. */
export const receipt = z
  .object({ index: z.int().min(0), leaf: z.string().meta({ contentEncoding: 'base64url' }) })
  .meta({ id: 'Receipt', description: "Index and leaf hash of this very release in the appliance's log." });

export const servedKey = z
  .object({
    id: shapes.id,
    suite: z.string(),
    state: z.enum(['pending', 'active', 'deactivated', 'compromised']),
    mode: z.enum(['deliver', 'remote']),
    certificates: z
      .array(z.string())
      .meta({ description: 'PEM: every leaf of this key, newest first, then the issuing authority; empty while pending.' }),
    delivery: z
      .string()
      .meta({ contentEncoding: 'base64', description: 'CMS EnvelopedData for this device (docs/formats/delivery.md).' })
      .nullable(),
    signature: z.string().meta({ description: 'JWS, compact, over the delivery.' }).nullable(),
    receipt: receipt.nullable(),
    imported: z
      .literal(true)
      .optional()
      .meta({ description: 'It came from outside, for reading old mail; its certificates are of other authorities.' }),
    mailbox: z
      .string()
      .optional()
      .meta({ description: 'Address of the shared mailbox whose key it is; its person is one of those who read it.' }),
    problem: z.string().meta({ description: 'Why this very key is not handed out, while others are: the code of the refusal.' }).optional(),
  })
  .meta({ id: 'ServedKey' });

export const decryptionRequest = z
  .strictObject({
    scheme: z.enum(['rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256']),
    encryptedKey: shapes.base64(1024),
    length: z.literal([16, 24, 32]).meta({ description: 'Bytes of the content-encryption key.' }),
  })
  .meta({ id: 'DecryptionRequest' });

export const decryption = z
  .object({
    wrapped: z.string().meta({
      contentEncoding: 'base64',
      description: 'RSA-OAEP of the content-encryption key under the delivery key. A wrong key or padding gives a random one.',
    }),
    hash: z.enum(['sha1', 'sha256']),
    receipt,
  })
  .meta({ id: 'Decryption' });
