import { Worker } from 'node:worker_threads';
import type { Components, EnvelopeForm, Readers, Warning } from '../codec/pdf/index.js';
import { Fault } from '../foundation/index.js';
import type { PdfReaders, ReadersAsk } from './readers.js';

export interface WorkAsk {
  /** Descriptors of open files. */
  input: number;
  size: number;
  output: number;
  groups: readonly Readers[];
  form: EnvelopeForm;
  components: Components;
  signatures: 'refuse' | 'break';
  /** For a document that is encrypted already: the key that its sender's device opened, and the sender's certificates, DER. */
  opening?: { key: Uint8Array; certificates: readonly Uint8Array[] } | undefined;
}

export interface WorkAnswer {
  pages: number;
  warnings: Warning[];
  /** It was encrypted before. */
  opened: boolean;
  /** Of the result. */
  bytes: number;
  digest: Uint8Array;
}

/** What a thread is started with. */
export type Work = { do: 'encrypt'; ask: WorkAsk } | { do: 'readers'; ask: ReadersAsk };

/** MB of JavaScript objects that one document may need: limits.ts keeps far below. */
const HEAP_MB = 256;
/** At once; further ones wait. */
const THREADS = 2;
const WAITING = 32;
/** Milliseconds for any document, and more by its size: a tenth of the speed that is usual. */
const deadline = (bytes: number) => 20_000 + bytes / 10_000;

export type Told<Answer> = { answer: Answer } | { fault: { kind: Fault['kind']; code: string; message: string } };

/** Threads that read and encrypt documents, few at a time, each with an end in time and memory: no document is parsed anywhere else. */
export class PdfWorkers {
  #running = 0;
  readonly #queue: (() => void)[] = [];

  /** @param entry the built worker.js */
  constructor(private readonly entry: string) {}

  encrypt(ask: WorkAsk): Promise<WorkAnswer> {
    return this.#inTurn({ do: 'encrypt', ask });
  }

  readers(ask: ReadersAsk): Promise<PdfReaders> {
    return this.#inTurn({ do: 'readers', ask });
  }

  async #inTurn<Answer>(work: Work): Promise<Answer> {
    if (this.#running >= THREADS) {
      if (this.#queue.length >= WAITING)
        throw new Fault('unavailable', 'pdf-busy', 'many documents are being worked on: try again soon', 10);
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    }
    this.#running++;
    try {
      return await this.#run<Answer>(work);
    } finally {
      this.#running--;
      this.#queue.shift()?.();
    }
  }

  async #run<Answer>(work: Work): Promise<Answer> {
    const worker = new Worker(this.entry, { workerData: work, resourceLimits: { maxOldGenerationSizeMb: HEAP_MB }, env: {}, stdin: false });
    let timer: NodeJS.Timeout | undefined;
    try {
      const told = await new Promise<Told<Answer>>((resolve, reject) => {
        timer = setTimeout(
          () => reject(new Fault('too-large', 'pdf-excessive', 'the PDF takes longer than a document of its size should')),
          deadline(work.ask.size),
        );
        worker.once('message', resolve);
        worker.once('error', (error: NodeJS.ErrnoException) =>
          reject(
            error.code === 'ERR_WORKER_OUT_OF_MEMORY'
              ? new Fault('too-large', 'pdf-excessive', 'the PDF asks for more memory than a document needs')
              : error,
          ),
        );
        worker.once('exit', () => reject(new Error('a thread ended without an answer')));
      });
      if ('fault' in told) throw new Fault(told.fault.kind, told.fault.code, told.fault.message);
      return told.answer;
    } finally {
      clearTimeout(timer);
      // The files are closed next: nothing may still write into them.
      await worker.terminate();
    }
  }
}
