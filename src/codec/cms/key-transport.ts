import { constants, createHash, type KeyObject, privateDecrypt, timingSafeEqual } from 'node:crypto';
import { Fault } from '../../foundation/index.js';
import { Fields, octetsOf, oidOf, TAG } from '../asn1/index.js';
import { type AlgorithmIdentifier, algorithmOf } from './content-info.js';
import { DIGEST, MGF1, P_SPECIFIED, TRANSPORT } from './oids.js';

/** How the content-encryption key was encrypted to an RSA key. */
export type Transport = { scheme: 'pkcs1' } | { scheme: 'oaep'; hash: string; mgfHash: string; label: Buffer };

const unsupported = (what: string) => new Fault('malformed', 'algorithm-unsupported', `it uses ${what}, which is not supported here`);

export function transportOf(algorithm: AlgorithmIdentifier): Transport {
  if (algorithm.oid === TRANSPORT.rsa) return { scheme: 'pkcs1' };
  if (algorithm.oid !== TRANSPORT.oaep) throw unsupported(`key transport ${algorithm.oid}`);
  const transport: Transport & { scheme: 'oaep' } = { scheme: 'oaep', hash: 'sha1', mgfHash: 'sha1', label: Buffer.alloc(0) };
  if (algorithm.parameters?.tag !== TAG.sequence) return transport;
  // RFC 8017 §A.2.1: each field has its default, SHA-1, MGF1 with SHA-1, the empty label.
  const fields = new Fields(algorithm.parameters);
  const [hash, mgf, source] = [fields.optional(0xa0), fields.optional(0xa1), fields.optional(0xa2)];
  if (hash) transport.hash = digestName(algorithmOf(new Fields(hash).take()).oid);
  if (mgf) {
    const mask = algorithmOf(new Fields(mgf).take());
    if (mask.oid !== MGF1 || !mask.parameters) throw unsupported(`mask generation ${mask.oid}`);
    transport.mgfHash = digestName(algorithmOf(mask.parameters).oid);
  }
  if (source) {
    const label = algorithmOf(new Fields(source).take());
    if (label.oid !== P_SPECIFIED || !label.parameters) throw unsupported(`OAEP label source ${oidOf(new Fields(source).take())}`);
    transport.label = octetsOf(label.parameters);
  }
  return transport;
}

/** The forms that the appliance opens with a key that stays in its token. */
export type TransportName = 'rsa-pkcs1' | 'rsa-oaep-sha1' | 'rsa-oaep-sha256';

/** Undefined for what only a private key at hand opens. */
export function transportName(transport: Transport): TransportName | undefined {
  if (transport.scheme === 'pkcs1') return 'rsa-pkcs1';
  const isPlain = transport.hash === transport.mgfHash && transport.label.length === 0;
  if (isPlain && transport.hash === 'sha1') return 'rsa-oaep-sha1';
  if (isPlain && transport.hash === 'sha256') return 'rsa-oaep-sha256';
  return undefined;
}

export function digestName(oid: string): string {
  const name = DIGEST[oid];
  if (!name) throw unsupported(`digest ${oid}`);
  return name;
}

/**
 * The content-encryption key; undefined where OAEP says that key and ciphertext do not belong together. PKCS#1 v1.5 never says so: OpenSSL rejects
 * implicitly, a wrong key gives random bytes of a random length, and the content then fails.
 */
export function openTransport(key: KeyObject, transport: Transport, encryptedKey: Buffer): Buffer | undefined {
  try {
    if (transport.scheme === 'pkcs1') return privateDecrypt({ key, padding: constants.RSA_PKCS1_PADDING }, encryptedKey);
    if (transport.hash !== transport.mgfHash) return openMixedOaep(key, transport, encryptedKey);
    return privateDecrypt(
      { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: transport.hash, oaepLabel: transport.label },
      encryptedKey,
    );
  } catch {
    return undefined;
  }
}

/** EME-OAEP decoding (RFC 8017 §7.1.2) with an MGF1 hash of its own, which node:crypto cannot be asked for; Java makes such mails by default. */
function openMixedOaep(key: KeyObject, transport: Transport & { scheme: 'oaep' }, encryptedKey: Buffer): Buffer | undefined {
  const block = privateDecrypt({ key, padding: constants.RSA_NO_PADDING }, encryptedKey);
  const labelHash = createHash(transport.hash).update(transport.label).digest();
  const size = labelHash.length;
  if (block.length < 2 * size + 2) return undefined;
  const [maskedSeed, maskedData] = [block.subarray(1, 1 + size), block.subarray(1 + size)];
  const seed = xor(maskedSeed, mgf1(transport.mgfHash, maskedData, size));
  const data = xor(maskedData, mgf1(transport.mgfHash, seed, maskedData.length));
  const separator = data.findIndex((octet, index) => index >= size && octet !== 0);
  // One verdict for every fault, after all the work: which of them it was is what Manger's attack asks.
  const holds = [block[0] === 0, timingSafeEqual(data.subarray(0, size), labelHash), data[separator] === 1];
  return holds.includes(false) ? undefined : data.subarray(separator + 1);
}

function mgf1(hash: string, seed: Buffer, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let counter = 0, made = 0; made < length; counter++) {
    const block = createHash(hash)
      .update(seed)
      .update(Buffer.of(counter >>> 24, counter >>> 16, counter >>> 8, counter))
      .digest();
    blocks.push(block);
    made += block.length;
  }
  return Buffer.concat(blocks).subarray(0, length);
}

const xor = (a: Buffer, b: Buffer): Buffer => Buffer.from(a.map((octet, index) => octet ^ (b[index] ?? 0)));
