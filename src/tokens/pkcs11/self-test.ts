import {
  constants,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  verify,
} from 'node:crypto';
import { sameBytes } from '../../foundation/index.js';
import { type Hsm, HsmError, type Rewrapped, SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName, type StoredPair } from '../hsm.js';

/** RSA-2048, the quickest: the mechanisms are the same for every length. */
const KIND = { suite: 'rsa', bits: 2048 } as const;

/**
 * Runs once, before the token counts as usable, because mechanism numbers mean different things to different vendors: a throw-away key
 * goes the whole way, and what comes out is opened by node:crypto, which knows nothing of the token. HsmError `mechanism-missing` names
 * what did not hold; a token that is down stays `token-down`.
 */
export function selfTest(hsm: Hsm): void {
  const device = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const recipient = device.publicKey.export({ format: 'der', type: 'spki' });
  const pair = attempt('making and wrapping a key pair', () => ({ ...hsm.generatePair(KIND), kind: KIND }));
  attempt('releasing a key (AES-KWP under RSA-OAEP)', () => isKeyOf(pair, openRelease(hsm.rewrap(pair, recipient), device.privateKey)));
  attempt('remote decryption (RSA PKCS#1 v1.5)', () => transports(hsm, pair, recipient, device.privateKey));
  attempt('record MACs (HMAC-SHA-256)', () => {
    const first = hsm.mac(Buffer.from('one'));
    return first.length === 32 && sameBytes(first, hsm.mac(Buffer.from('one'))) && !sameBytes(first, hsm.mac(Buffer.from('two')));
  });
  attempt('sealing (AES-256-GCM)', () => hsm.open(hsm.seal(Buffer.from('one'), 'self-test'), 'self-test').toString() === 'one');
  for (const name of SIGNING_KEYS) attempt(`signing by ${name}`, () => signs(hsm, name));
  hsm.checkCanary();
}

function attempt<T>(what: string, act: () => T): T {
  let result: T;
  try {
    result = act();
  } catch (error) {
    if (error instanceof HsmError && error.code === 'token-down') throw error;
    throw new HsmError('mechanism-missing', `self-test of the token: ${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (result === false) throw new HsmError('mechanism-missing', `self-test of the token: ${what}: the result is wrong`);
  return result;
}

const openOaep = (key: KeyObject, oaepHash: string, encryptedKey: Buffer): Buffer =>
  privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, encryptedKey);

function openRelease({ encryptedKey, content, oaepHash }: Rewrapped, device: KeyObject): Buffer {
  // RFC 5649 §3: the alternative initial value.
  const decipher = createDecipheriv('id-aes256-wrap-pad', openOaep(device, oaepHash, encryptedKey), Buffer.from('a65959a6', 'hex'));
  return Buffer.concat([decipher.update(content), decipher.final()]);
}

function isKeyOf({ publicKey }: StoredPair, pkcs8: Buffer): boolean {
  const opened = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
  return sameBytes(opened.export({ format: 'der', type: 'spki' }), publicKey);
}

function transports(hsm: Hsm, pair: StoredPair, recipient: Buffer, device: KeyObject): boolean {
  const contentKey = randomBytes(32);
  const owner = createPublicKey({ key: pair.publicKey, format: 'der', type: 'spki' });
  const encrypted = publicEncrypt({ key: owner, padding: constants.RSA_PKCS1_PADDING }, contentKey);
  const { encryptedKey, oaepHash } = hsm.transport(pair, 'rsa-pkcs1', encrypted, 32, recipient);
  return sameBytes(openOaep(device, oaepHash, encryptedKey), contentKey);
}

const DIGEST = {
  'ecdsa-p384-sha384': 'sha384',
  'ecdsa-p256-sha256': 'sha256',
  'rsa-pkcs1-sha384': 'sha384',
  ed25519: null,
} as const satisfies Record<SigningAlgorithm, string | null>;

function signs(hsm: Hsm, name: SigningKeyName): boolean {
  const message = randomBytes(48);
  const key = createPublicKey({ key: hsm.publicKey(name), format: 'der', type: 'spki' });
  return verify(DIGEST[hsm.algorithm(name)], message, { key, dsaEncoding: 'ieee-p1363' }, hsm.sign(name, message));
}
