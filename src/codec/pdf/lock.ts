import { Fault, isFault } from '../../foundation/index.js';
import {
  cipherOf,
  type Enveloped,
  isNamedBy,
  namesOf,
  openContent,
  type Recipient,
  type RecipientId,
  type TransportName,
  transportName,
  transportOf,
} from '../cms/index.js';
import { unsupported } from './faults.js';
import type { PdfFile } from './pdf-file.js';
import type { Filters } from './security/opening.js';
import { type PasswordLock, readPasswordLock } from './security/password.js';
import { type PublicKeyLock, readPublicKeyLock } from './security/public-key.js';
import { nameOf } from './values.js';

export type Lock = { kind: 'none' } | { kind: 'password'; lock: PasswordLock } | { kind: 'public-key'; lock: PublicKeyLock };

/** How a document is protected. Throws `pdf-unsupported` for what is neither a password nor certificates. */
export function lockOf(file: PdfFile): Lock {
  const dict = file.encryptDict();
  if (!dict) return { kind: 'none' };
  const filter = nameOf(dict.get('Filter'));
  if (filter === 'Standard') return { kind: 'password', lock: readPasswordLock(dict, firstId(file)) };
  if (filter === 'Adobe.PubSec') return { kind: 'public-key', lock: readPublicKeyLock(dict) };
  // Other programs' handlers may still follow adbe.pkcs7 (ISO 32000-2 §7.6.5.1).
  if (nameOf(dict.get('SubFilter'))?.startsWith('adbe.pkcs7.')) return { kind: 'public-key', lock: readPublicKeyLock(dict) };
  throw unsupported(`it is protected by "${filter ?? 'nothing that has a name'}"`);
}

function firstId(file: PdfFile): Buffer {
  const ids = file.trailer.get('ID');
  const [first] = Array.isArray(ids) ? ids : [];
  return Buffer.isBuffer(first) ? first : Buffer.alloc(0);
}

/** Who can open a document, as it names them: by issuer and serial number, or by key identifier (RFC 5652 §6.2.1). */
export interface NamedReader {
  id: RecipientId;
  /** Hexadecimal. */
  serial: string | null;
  /** Name, DER in base64. */
  issuer: string | null;
  keyIdentifier: string | null;
  /** What the reader's key opens, base64, and how; null where this is of a kind that is not opened here. */
  key: { scheme: TransportName; encryptedKey: string; length: 16 | 24 | 32 } | null;
}

/** Each once, in the order of the document, by the first set of recipients that names them: a sender stands in every one, and may do what the first allows. */
export function namedReaders(lock: PublicKeyLock): NamedReader[] {
  const found = new Map<string, NamedReader>();
  for (const envelope of lock.envelopes)
    for (const recipient of envelope.recipients) {
      const { id } = recipient;
      const names =
        'keyIdentifier' in id
          ? { serial: null, issuer: null, keyIdentifier: id.keyIdentifier.toString('hex') }
          : { serial: id.serial.toString('hex'), issuer: id.issuer.toString('base64'), keyIdentifier: null };
      const name = Object.values(names).join(' ');
      if (!found.has(name)) found.set(name, { id, ...names, key: keyOf(envelope, recipient) });
    }
  return [...found.values()];
}

function keyOf(envelope: Enveloped, { algorithm, encryptedKey }: Recipient): NamedReader['key'] {
  try {
    const scheme = transportName(transportOf(algorithm));
    return scheme ? { scheme, encryptedKey: encryptedKey.toString('base64'), length: cipherOf(envelope).keyLength } : null;
  } catch (error) {
    if (isFault(error, 'algorithm-unsupported')) return null;
    throw error;
  }
}

/**
 * Opens a document by the content-encryption key that one of its readers, who has one of `certificates` (DER), opened: that of the first envelope which names
 * them. Throws `pdf-not-reader`, `pdf-key-wrong`.
 */
export function filtersFor(
  lock: PublicKeyLock,
  key: Uint8Array,
  certificates: readonly Uint8Array[],
): { filters: Filters; permissions: number } {
  const mine = certificates.map(namesOf);
  const envelope = lock.envelopes.find(({ recipients }) => recipients.some(({ id }) => mine.some((names) => isNamedBy(id, names))));
  if (!envelope) throw new Fault('forbidden', 'pdf-not-reader', 'the PDF is encrypted, and you are none of its readers');
  const content = openContent(envelope, Buffer.from(key));
  if (!content) throw new Fault('forbidden', 'pdf-key-wrong', 'the PDF does not open with the key that came with it');
  try {
    return lock.filters(content);
  } finally {
    content.fill(0);
  }
}
