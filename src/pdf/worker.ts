import { createHash } from 'node:crypto';
import { ftruncateSync, readSync, writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { fileSink, fileSource, lockOf, PdfFile, publicKeySecurity, rewrite } from '../codec/pdf/index.js';
import { Fault, isFault } from '../foundation/index.js';
import { diskFault } from './private-file.js';
import type { WorkAnswer, WorkAsk } from './workers.js';

/** One document, in a thread of its own: nothing in it can keep the appliance from answering. Entry point; see workers.ts. */
function work({ input, size, output, groups, form, components, signatures }: WorkAsk): WorkAnswer {
  const file = PdfFile.open(fileSource(input, size, readSync));
  const { kind } = lockOf(file);
  if (kind !== 'none')
    throw new Fault(
      'conflict',
      'pdf-encrypted',
      `the PDF is encrypted already, ${kind === 'password' ? 'by a password' : 'to certificates'}: open it first, on a device that can`,
    );
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
  return { pages, warnings, bytes, digest: hash.digest() };
}

function answer(): WorkAnswer | { fault: { kind: Fault['kind']; code: string; message: string } } {
  try {
    return work(workerData as WorkAsk); // workers.ts alone starts this
  } catch (caught) {
    const error = diskFault(caught);
    if (!isFault(error)) throw error;
    return { fault: { kind: error.kind, code: error.code, message: error.message } };
  }
}

parentPort?.postMessage(answer());
