/** Where a document's bytes come from. Synchronous: the caller runs the engine where waiting harms nobody. */
export interface Source {
  readonly size: number;
  /** `length` bytes from `at`, fewer only at the end. The buffer is the caller's until the next call. */
  read(at: number, length: number): Buffer;
}

/** Where a document goes. */
export interface Sink {
  write(bytes: Uint8Array): void;
  /** Forgets all that was written: the engine begins anew. */
  restart(): void;
}

const PIECE = 2 ** 20;

export function* piecesOf(source: Source, at: number, length: number): Generator<Buffer> {
  for (let done = 0; done < length; done += PIECE) yield source.read(at + done, Math.min(PIECE, length - done));
}
