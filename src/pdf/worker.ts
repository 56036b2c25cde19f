import { createHash } from 'node:crypto';
import { ftruncateSync, readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import {
  fileSink,
  fileSource,
  filtersFor,
  lockOf,
  Opening,
  PdfFile,
  permissionsOf,
  publicKeySecurity,
  rewrite,
} from '../codec/pdf/index.js';
import { Fault, isFault } from '../foundation/index.js';
import { diskFault } from './private-file.js';
import { type PdfReaders, readersOf } from './readers.js';
import type { Told, Work, WorkAnswer, WorkAsk } from './workers.js';

function encrypt({ input, size, output, groups, form, components, signatures, opening }: WorkAsk): WorkAnswer {
  const file = PdfFile.open(fileSource(input, size, readSync));
  const opened = unlock(file, opening);
  const sink = fileSink(output, writeSync, ftruncateSync);
  let hash = createHash('sha256');
  let bytes = 0;
  const { pages, warnings } = rewrite(
    file,
    {
      write(piece) {
        sink.write(piece);
        hash.update(piece);
        bytes += piece.length;
      },
      restart() {
        sink.restart();
        hash = createHash('sha256');
        bytes = 0;
      },
    },
    { security: publicKeySecurity(groups, form, components), signatures },
  );
  return { pages, warnings, opened, bytes, digest: hash.digest() };
}

/** Opens what is encrypted with the key that its sender's own device took out of it, and whoever lacks that key is told. False for what was not encrypted. */
function unlock(file: PdfFile, opening: WorkAsk['opening']): boolean {
  const found = lockOf(file);
  if (found.kind === 'none') return false;
  if (found.kind === 'password' || !opening)
    throw new Fault(
      'conflict',
      'pdf-encrypted',
      `the PDF is encrypted already, ${found.kind === 'password' ? 'by a password' : 'to certificates'}: open it first, on a device that can`,
    );
  const { filters, permissions } = filtersFor(found.lock, opening.key, opening.certificates);
  if (!permissionsOf(permissions).isOwner)
    throw new Fault('forbidden', 'permission-missing', 'the sender of the PDF did not allow you to change who can open it');
  file.decryption = new Opening(filters);
  return true;
}

/** One document, in a thread of its own: nothing in it can keep the appliance from answering. Entry point; see workers.ts. */
function answer(work: Work): Told<WorkAnswer | PdfReaders> {
  try {
    return { answer: work.do === 'encrypt' ? encrypt(work.ask) : readersOf(work.ask) };
  } catch (caught) {
    const error = diskFault(caught);
    if (!isFault(error)) throw error;
    return { fault: { kind: error.kind, code: error.code, message: error.message } };
  }
}

parentPort?.postMessage(answer(workerData as Work)); // workers.ts alone starts this
