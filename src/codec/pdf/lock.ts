import { unsupported } from './faults.js';
import type { PdfFile } from './pdf-file.js';
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
  /** Hexadecimal. */
  serial: string | null;
  /** Name, DER in base64. */
  issuer: string | null;
  keyIdentifier: string | null;
}

/** Each once, in the order of the document: a sender stands in every set of recipients. */
export function namedReaders(lock: PublicKeyLock): NamedReader[] {
  const found = new Map<string, NamedReader>();
  for (const { recipients } of lock.envelopes)
    for (const { id } of recipients) {
      const reader =
        'keyIdentifier' in id
          ? { serial: null, issuer: null, keyIdentifier: id.keyIdentifier.toString('hex') }
          : { serial: id.serial.toString('hex'), issuer: id.issuer.toString('base64'), keyIdentifier: null };
      found.set(Object.values(reader).join(' '), reader);
    }
  return [...found.values()];
}
