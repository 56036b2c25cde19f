import { unsupported } from './faults.js';
import type { PdfFile } from './pdf-file.js';
import { type PublicKeyLock, readPublicKeyLock } from './security/public-key.js';
import { nameOf } from './values.js';

export type Lock = { kind: 'none' } | { kind: 'password' } | { kind: 'public-key'; lock: PublicKeyLock };

/** How a document is protected. Throws `pdf-unsupported` for what is neither a password nor certificates. */
export function lockOf(file: PdfFile): Lock {
  const dict = file.encryptDict();
  if (!dict) return { kind: 'none' };
  const filter = nameOf(dict.get('Filter'));
  if (filter === 'Standard') return { kind: 'password' };
  if (filter === 'Adobe.PubSec') return { kind: 'public-key', lock: readPublicKeyLock(dict) };
  // Other programs' handlers may still follow adbe.pkcs7 (ISO 32000-2 §7.6.5.1).
  if (nameOf(dict.get('SubFilter'))?.startsWith('adbe.pkcs7.')) return { kind: 'public-key', lock: readPublicKeyLock(dict) };
  throw unsupported(`it is protected by "${filter ?? 'nothing that has a name'}"`);
}
