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
      }),
    ),
  })
  .meta({ id: 'PdfReaders' });

export function readersOf(upload: PrivateFile): z.input<typeof readersShape> {
  const found = lockOf(PdfFile.open(fileSource(upload.descriptor, upload.size, readSync)));
  if (found.kind !== 'public-key') return { encryption: found.kind === 'none' ? 'none' : 'password', readers: [] };
  return { encryption: 'certificates', readers: namedReaders(found.lock) };
}
