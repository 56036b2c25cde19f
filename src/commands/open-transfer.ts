import { constants, createPrivateKey, createPublicKey, type KeyObject, privateDecrypt, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { parseEnvelopedKey } from '../codec/cms/index.js';
import { compat, modern, pkcs12 } from '../codec/pkcs12/index.js';
import type { TransferredKey } from '../custody/index.js';
import { Fault } from '../foundation/index.js';
import { replaceFile } from '../storage/index.js';
import { kwp } from '../tokens/index.js';

/** Opens one key of a transfer to the organisation's own key, wherever that is: no appliance takes part. Throws `transfer-key-unknown`. */
function openTransferred({ content, publicKey }: TransferredKey, recipient: KeyObject): KeyObject {
  try {
    const { encryptedKey, content: wrapped, oaepHash } = parseEnvelopedKey(Buffer.from(content, 'base64'));
    const cek = privateDecrypt({ key: recipient, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, encryptedKey);
    const key = createPrivateKey({ key: kwp.unwrap(cek, wrapped), format: 'der', type: 'pkcs8' });
    if (createPublicKey(key).export({ format: 'der', type: 'spki' }).toString('base64') === publicKey) return key;
  } catch {
    // as any other that it does not open
  }
  throw new Fault('forbidden', 'transfer-key-unknown', 'this was sealed to another key, or was damaged');
}

export interface Pkcs12Place {
  /** The recipient's private key. */
  key: KeyObject;
  /** DER. */
  authorities: readonly Buffer[];
  folder: string;
  phrase: string;
  profile: 'modern' | 'compat';
}

/** Writes it as PKCS#12, named by the key's id, with the certificates that came with it. */
export async function toPkcs12(line: TransferredKey, { key, authorities, folder, phrase, profile }: Pkcs12Place): Promise<void> {
  const privateKey = openTransferred(line, key);
  const leaves = line.certificates.map((text) => ({ der: Buffer.from(text, 'base64') }));
  const name = line.addresses[0] ?? nameOf(leaves[0]?.der) ?? line.key;
  // Of a key from outside the authorities are others.
  const identity = { name, privateKey, leaves, authorities: line.imported ? [] : authorities.map((der) => ({ der })) };
  const file = pkcs12(identity, profile === 'modern' ? modern(phrase) : compat(phrase));
  // What has its name is whole, also after a power cut, so whoever was cut off goes on.
  await replaceFile(join(folder, `${line.key}.p12`), file);
}

const nameOf = (der: Buffer | undefined): string | undefined =>
  der && /email:([^,]+)/.exec(new X509Certificate(der).subjectAltName ?? '')?.[1];
