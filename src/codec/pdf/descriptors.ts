import type { Sink, Source } from './ports.js';

type Read = (descriptor: number, into: Buffer, offset: number, length: number, position: number) => number;
type Write = (descriptor: number, bytes: Uint8Array, offset: number, length: number, position: number) => number;

/** A source over an open file; the caller brings `readSync`, since this room touches no file system. */
export function fileSource(descriptor: number, size: number, read: Read): Source {
  const pieces = Buffer.allocUnsafeSlow(2 ** 20);
  return {
    size,
    read(at, length) {
      const wanted = Math.max(0, Math.min(length, size - at));
      const into = wanted <= pieces.length ? pieces : Buffer.allocUnsafeSlow(wanted);
      let done = 0;
      while (done < wanted) {
        const count = read(descriptor, into, done, wanted - done, at + done);
        if (count === 0) break;
        done += count;
      }
      return into.subarray(0, done);
    },
  };
}

/** A sink into an open file. */
export function fileSink(descriptor: number, write: Write, truncate: (descriptor: number, length: number) => void): Sink {
  let at = 0;
  return {
    write(bytes) {
      for (let done = 0; done < bytes.length; ) done += write(descriptor, bytes, done, bytes.length - done, at + done);
      at += bytes.length;
    },
    restart() {
      truncate(descriptor, 0);
      at = 0;
    },
  };
}
