import { readSync } from 'node:fs';
import { z } from 'zod';
import { fileSource, lockOf, namedReaders, PdfFile } from '../codec/pdf/index.js';
import type { PrivateFile } from './private-file.js';

export const readersShape = z
  .object({
    encryption: z.enum(['none', 'password', 'certificates']),
    readers: z.array(
      z.object({
        serial: z.string().nullable().meta({ description: 'Of the certificate, hexadecimal' }),
        issuer: z.string().nullable().meta({ description: 'base64: the Name of its issuer, DER' }),
        keyIdentifier: z.string().nullable().meta({ description: 'Hexadecimal, where the reader is named by it' }),
        key: z
          .object({
            scheme: z.enum(['rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256']),
            encryptedKey: z.string().meta({ contentEncoding: 'base64' }),
            length: z.literal([16, 24, 32]),
          })
          .nullable()
          .meta({
            description:
              "What this reader's key opens, as `POST /v1/keys/{id}/decryptions` takes it; what comes out goes into `opening` of `POST /v1/pdf/encryptions`",
          }),
      }),
    ),
  })
  .meta({ id: 'PdfReaders' });

export function readersOf(upload: PrivateFile): z.input<typeof readersShape> {
  const found = lockOf(PdfFile.open(fileSource(upload.descriptor, upload.size, readSync)));
  if (found.kind !== 'public-key') return { encryption: found.kind === 'none' ? 'none' : 'password', readers: [] };
  return { encryption: 'certificates', readers: namedReaders(found.lock) };
}
