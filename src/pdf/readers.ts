import { readSync } from 'node:fs';
import { z } from 'zod';
import { isNamedBy, namesOf } from '../codec/cms/index.js';
import { fileSource, lockOf, namedReaders, PdfFile } from '../codec/pdf/index.js';

export const readersShape = z
  .object({
    encryption: z.enum(['none', 'password', 'certificates']),
    readers: z.array(
      z.object({
        serial: z.string().nullable().meta({ description: 'Of the certificate, hexadecimal' }),
        issuer: z.string().nullable().meta({ description: 'base64: the Name of its issuer, DER' }),
        keyIdentifier: z.string().nullable().meta({ description: 'Hexadecimal, where the reader is named by it' }),
        is: z
          .enum(['you', 'recovery'])
          .nullable()
          .meta({ description: 'you: one of your own certificates; recovery: the organisation, by recovery cases' }),
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

export type PdfReaders = z.input<typeof readersShape>;

/** Who can open a document; of the certificates that are known, DER, it says so. */
export interface ReadersAsk {
  input: number;
  size: number;
  known: Readonly<Record<'you' | 'recovery', readonly Uint8Array[]>>;
}

/** By the document's own word. Reading it takes as long as its maker wants: for a thread of its own. */
export function readersOf({ input, size, known }: ReadersAsk): PdfReaders {
  const found = lockOf(PdfFile.open(fileSource(input, size, readSync)));
  if (found.kind !== 'public-key') return { encryption: found.kind === 'none' ? 'none' : 'password', readers: [] };
  const [you, recovery] = [known.you.map(namesOf), known.recovery.map(namesOf)];
  const readers = namedReaders(found.lock).map(({ id, ...reader }) => {
    const is = (names: typeof you) => names.some((one) => isNamedBy(id, one));
    return { ...reader, is: is(you) ? ('you' as const) : is(recovery) ? ('recovery' as const) : null };
  });
  return { encryption: 'certificates', readers };
}
