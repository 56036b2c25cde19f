import { HsmError, kekIdOf, kekLabel, SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import { type Handle, KEY, type Mechanism, type TokenSession } from './module.js';
import { edwardsOf, type TokenProfile } from './profile.js';
import { CURVES, readCurveSpki, readRsaSpki } from './public-keys.js';

/** Labels of the objects that EKMS keeps in its token. KEKs are plural: `ekms/kek/1`, `ekms/kek/2`, … */
export const LABEL = {
  kek: kekLabel,
  records: 'ekms/records',
  seal: 'ekms/seal',
  /** The first of its name, and those that took over from it: `ekms/sign/mail`, `ekms/sign/mail/2`, … */
  signing: (name: SigningKeyName, n = 1) => (n === 1 ? `ekms/sign/${name}` : `ekms/sign/${name}/${n}`),
} as const;

/** Which of a signing key's successors is in service, where it is not the first. */
export type Serving = Readonly<Partial<Record<SigningKeyName, number>>>;

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

/**
 * Finds all of EKMS's keys. Whatever is missing, or there twice, is named: HsmError `kek-missing`, or `token-missing` for the rest.
 * @param serving undefined where nobody says it: then the newest of each name
 */
export function findTokenKeys(session: TokenSession, serving?: Serving): TokenKeys {
  const keks = findKeks(session);
  const [activeKek] = keks.keys();
  if (activeKek === undefined)
    throw new HsmError('kek-missing', 'the token holds no key-encryption key (ekms/kek/…), or hides it until login');
  return {
    keks,
    activeKek,
    records: findOne(session, KEY.genericSecret, LABEL.records),
    seal: findOne(session, KEY.aes, LABEL.seal),
    signing: new Map(
      SIGNING_KEYS.map((name) => [
        name,
        findSigningKey(session, name, serving ? (serving[name] ?? 1) : (numbersOf(session, name).at(-1) ?? 1)),
      ]),
    ),
  };
}

function findKeks(session: TokenSession): Map<string, Handle> {
  const keks = new Map<string, Handle>();
  for (const handle of session.find(KEY.aes)) {
    const id = kekIdOf(session.read(handle, 'label').toString());
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

/** Which keys of this name the token holds, oldest first. */
export function numbersOf(session: TokenSession, name: SigningKeyName): number[] {
  return session
    .find({ class: KEY.ecPrivate.class, token: true })
    .map((handle) => signingLabel(session.read(handle, 'label').toString()))
    .flatMap((key) => (key?.name === name ? [key.n] : []))
    .sort((a, b) => a - b);
}

/** What a label of a signing key says; undefined for any other. */
export function signingLabel(label: string): { name: SigningKeyName; n: number } | undefined {
  const [, word, number = '1'] = /^ekms\/sign\/([a-z]+)(?:\/([1-9]\d{0,5}))?$/.exec(label) ?? [];
  const name = SIGNING_KEYS.find((each) => each === word);
  return name && LABEL.signing(name, Number(number)) === label ? { name, n: Number(number) } : undefined;
}

export function findSigningKey(session: TokenSession, name: SigningKeyName, n: number): TokenSigningKey {
  const handle = findOne(session, KEY.ecPrivate, LABEL.signing(name, n));
  const publicHandle = findOne(session, KEY.ecPublic, LABEL.signing(name, n));
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
