import { HsmError, SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import { type Handle, KEY, type Mechanism, type TokenSession } from './module.js';
import { edwardsOf, type TokenProfile } from './profile.js';
import { CURVES, readCurveSpki, readRsaSpki } from './public-keys.js';

/** Labels of the objects that EKMS keeps in its token. KEKs are plural: `ekms/kek/1`, `ekms/kek/2`, … */
export const LABEL = {
  kek: (id: string) => `ekms/kek/${id}`,
  records: 'ekms/records',
  seal: 'ekms/seal',
  signing: (name: SigningKeyName) => `ekms/sign/${name}`,
} as const;

export interface TokenSigningKey {
  handle: Handle;
  algorithm: SigningAlgorithm;
  publicKey: Buffer;
}

export interface TokenKeys {
  /** Newest first. */
  keks: Map<string, Handle>;
  /** The newest of them: what new pairs are wrapped under. */
  activeKek: string;
  records: Handle;
  seal: Handle;
  signing: Map<SigningKeyName, TokenSigningKey>;
}

/** Finds all of EKMS's keys. Whatever is missing, or there twice, is named: HsmError `kek-missing`, or `token-missing` for the rest. */
export function findTokenKeys(session: TokenSession): TokenKeys {
  const keks = findKeks(session);
  const [activeKek] = keks.keys();
  if (activeKek === undefined)
    throw new HsmError('kek-missing', 'the token holds no key-encryption key (ekms/kek/…), or hides it until login');
  return {
    keks,
    activeKek,
    records: findOne(session, KEY.genericSecret, LABEL.records),
    seal: findOne(session, KEY.aes, LABEL.seal),
    signing: new Map(SIGNING_KEYS.map((name) => [name, findSigningKey(session, name)])),
  };
}

function findKeks(session: TokenSession): Map<string, Handle> {
  const keks = new Map<string, Handle>();
  for (const handle of session.find(KEY.aes)) {
    const id = /^ekms\/kek\/([1-9]\d*)$/.exec(session.read(handle, 'label').toString())?.[1];
    if (id === undefined) continue;
    if (keks.has(id)) throw new HsmError('kek-missing', `the token holds two keys labelled ${LABEL.kek(id)}; one of them was planted`);
    keks.set(id, handle);
  }
  return new Map([...keks].sort(([a], [b]) => Number(b) - Number(a)));
}

function findOne(session: TokenSession, kind: (typeof KEY)[keyof typeof KEY], label: string): Handle {
  const [found, second] = session.find({ class: kind.class, token: true, label });
  if (!found) throw new HsmError('token-missing', `the token holds no key ${label}: it is not a token that ekms init made`);
  if (second) throw new HsmError('token-missing', `the token holds two keys labelled ${label}; one of them was planted`);
  return found;
}

function findSigningKey(session: TokenSession, name: SigningKeyName): TokenSigningKey {
  const handle = findOne(session, KEY.ecPrivate, LABEL.signing(name));
  const publicHandle = findOne(session, KEY.ecPublic, LABEL.signing(name));
  switch (session.read(handle, 'keyType').readUInt32LE()) {
    case KEY.rsaPrivate.keyType:
      return { handle, algorithm: 'rsa-pkcs1-sha384', publicKey: readRsaSpki(session, publicHandle) };
    case KEY.edwardsPrivate.keyType:
      return { handle, algorithm: 'ed25519', publicKey: readCurveSpki(session, publicHandle, 'Ed25519') };
    default:
      return session.read(publicHandle, 'ecParameters').equals(CURVES['P-384'])
        ? { handle, algorithm: 'ecdsa-p384-sha384', publicKey: readCurveSpki(session, publicHandle, 'P-384') }
        : { handle, algorithm: 'ecdsa-p256-sha256', publicKey: readCurveSpki(session, publicHandle, 'P-256') };
  }
}

/** The mechanism of each signing algorithm, and the digest that the host makes before it. */
export function signingMechanism(
  algorithm: SigningAlgorithm,
  profile: TokenProfile,
): { mechanism: Mechanism; hostDigest?: 'sha256' | 'sha384' } {
  const { mechanisms } = profile;
  switch (algorithm) {
    case 'ed25519':
      return { mechanism: { number: edwardsOf(profile).sign } };
    case 'rsa-pkcs1-sha384':
      return { mechanism: { number: mechanisms.rsaPkcsSha384 } };
    case 'ecdsa-p256-sha256':
      return { mechanism: { number: mechanisms.ecdsa }, hostDigest: 'sha256' };
    case 'ecdsa-p384-sha384':
      return { mechanism: { number: mechanisms.ecdsa }, hostDigest: 'sha384' };
  }
}
