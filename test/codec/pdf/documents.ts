import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { openContent, openTransport, transportOf } from '../../../src/codec/cms/index.js';
import {
  type Components,
  lockOf,
  Opening,
  PdfFile,
  permissionBits,
  publicKeySecurity,
  type Rewritten,
  rewrite,
  type Sink,
  type Source,
} from '../../../src/codec/pdf/index.js';

const VECTORS = resolve('test/vectors/pdf');
export const vector = (name: string): Buffer => readFileSync(resolve(VECTORS, name));
/** The published test key of pyHanko: RSA-4096, pass phrase "secret". */
export const testKey = createPrivateKey({ key: vector('pyhanko/selfsigned.key.pem'), passphrase: 'secret' });
export const testCertificate = new X509Certificate(vector('pyhanko/selfsigned.cert.pem')).raw;

export const sourceOf = (bytes: Buffer): Source => ({
  size: bytes.length,
  read: (at, length) => bytes.subarray(Math.max(0, at), Math.max(0, at) + length),
});

export class MemorySink implements Sink {
  #pieces: Buffer[] = [];

  write(bytes: Uint8Array): void {
    this.#pieces.push(Buffer.from(bytes));
  }

  restart(): void {
    this.#pieces = [];
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}

export function encrypted(plain: Buffer, components: Components = 'all'): { bytes: Buffer; told: Rewritten } {
  const sink = new MemorySink();
  const security = publicKeySecurity(
    [{ certificates: [testCertificate], permissions: permissionBits('owner') }],
    { transport: 'pkcs1', cipher: 'aes-256-cbc' },
    components,
  );
  const told = rewrite(PdfFile.open(sourceOf(plain)), sink, { security, signatures: 'refuse' });
  return { bytes: sink.bytes, told };
}

/** Opens with `key` whatever of the envelopes it opens. */
export function unlocked(bytes: Buffer, key: KeyObject = testKey, open: typeof openTransport = openTransport): PdfFile {
  const file = PdfFile.open(sourceOf(bytes));
  const found = lockOf(file);
  if (found.kind !== 'public-key') return file;
  for (const envelope of found.lock.envelopes)
    for (const { algorithm, encryptedKey } of envelope.recipients) {
      const contentKey = open(key, transportOf(algorithm), encryptedKey);
      const content = contentKey && openContent(envelope, contentKey);
      if (!content) continue;
      file.decryption = new Opening(found.lock.filters(content).filters);
      return file;
    }
  throw new Error('the key opens none of the envelopes');
}

export function decrypted(bytes: Buffer, key?: KeyObject): { bytes: Buffer; told: Rewritten } {
  const sink = new MemorySink();
  const told = rewrite(unlocked(bytes, key), sink, { signatures: 'break' });
  return { bytes: sink.bytes, told };
}
