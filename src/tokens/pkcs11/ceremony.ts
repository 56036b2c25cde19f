import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import type { CustodyEntry, CustodyKind, CustodyPackage } from '../custody/package.js';
import { HsmError, SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import { type AuthorityKind, signingAlgorithms } from '../signing-keys.js';
import { CustodyOpening, CustodySeal, makeCustodyKey, oaepOf, publicObject } from './custody-keys.js';
import { type Handle, KEY, type Pkcs11Module, type Template, type TokenSession } from './module.js';
import { edwardsOf, type TokenProfile } from './profile.js';
import { CURVES, type Curve, readCurveSpki, readRsaSpki } from './public-keys.js';
import { LABEL } from './token-keys.js';

export interface Ceremony {
  module: Pkcs11Module;
  /** Label of the token to be made; up to 32 bytes. */
  label: string;
  profile: TokenProfile;
  /** Path of the program that native/build.sh makes. */
  kekHelper: string;
  authorities: AuthorityKind;
}

const FIRST_KEK = '1';
/** A key that stays in the token and never leaves it, nor changes what it may do: no attribute set later, no altered copy. */
const RESIDENT = { token: true, private: true, sensitive: true, extractable: false, modifiable: false, copyable: false } as const;
const NO_USE = { wrap: false, unwrap: false, encrypt: false, decrypt: false, sign: false, verify: false, derive: false } as const;

/** What a ceremony with custodians gives beside the token: nothing of it stays in the token. */
export interface MadeCustody {
  /** 32 bytes, to be split among the custodians and wiped. */
  ceremonyKey: Buffer;
  custodyKey: CustodyPackage['custodyKey'];
  keys: CustodyEntry[];
  /** Wraps more for the custodians, such as the identity that opens backups; while the ceremony lasts. */
  identity: CustodyPackage['backup']['envelope'];
}

/**
 * Makes a token with all of EKMS's keys in it, and gives back the canary, which the caller keeps beside the token's settings. A token of
 * that label must not exist yet. PINs go to the module in memory and to the helper on its standard input, never as arguments.
 * @param identity bytes that open backups: with them every key is also wrapped for the custodians, before it takes service
 */
export function initialiseToken(ceremony: Ceremony, pin: string, soPin: string): { canary: Buffer };
export function initialiseToken(ceremony: Ceremony, pin: string, soPin: string, identity: Buffer): { canary: Buffer; custody: MadeCustody };
export function initialiseToken(
  ceremony: Ceremony,
  pin: string,
  soPin: string,
  identity?: Buffer,
): { canary: Buffer; custody?: MadeCustody } {
  return withFreshToken(ceremony, pin, soPin, (session) => {
    if (!identity) {
      const keys = new KeyMaking(session, ceremony, undefined);
      const kek = keys.kek(FIRST_KEK, pin, ceremony);
      keys.rest(ceremony.authorities);
      return { canary: makeCanary(session, ceremony.profile, kek) };
    }
    const made = makeCustodyKey(session, ceremony.profile);
    const seal = new CustodySeal(session, ceremony.profile, made.publicKey);
    const keys = new KeyMaking(session, ceremony, { seal, publicKey: made.publicKey });
    const kek = keys.kek(FIRST_KEK, pin, ceremony);
    keys.rest(ceremony.authorities);
    const custody = {
      ceremonyKey: made.ceremonyKey,
      custodyKey: { publicKey: made.publicKey, wrapped: made.wrapped },
      keys: keys.entries,
      identity: seal.wrapValue(identity),
    };
    return { canary: makeCanary(session, ceremony.profile, kek), custody };
  });
}

/** Makes a token from the custodians' copies. HsmError `blob-corrupt` when ceremony key and package do not belong together. */
export function restoreToken(
  ceremony: Ceremony,
  pin: string,
  soPin: string,
  from: { ceremonyKey: Buffer; custody: Pick<CustodyPackage, 'custodyKey' | 'backup' | 'keys'> },
): { canary: Buffer; identity: Buffer } {
  return withFreshToken(ceremony, pin, soPin, (session) => {
    const { ceremonyKey, custody } = from;
    const opening = new CustodyOpening(session, ceremony.profile, ceremonyKey, custody.custodyKey.wrapped);
    const keks = custody.keys.filter(({ kind }) => kind === 'kek');
    const handles = keks.map((entry) => restoreKek(session, ceremony, pin, opening, entry, from));
    for (const entry of custody.keys.filter(({ kind }) => kind !== 'kek')) restoreKey(session, opening, entry);
    const identity = opening.value(custody.backup.envelope, 'the identity that opens backups');
    const [kek] = handles;
    if (!kek) throw new HsmError('kek-missing', 'the package holds no key-encryption key');
    return { canary: makeCanary(session, ceremony.profile, kek), identity };
  });
}

/** A token of this label is made, and is deleted by the operator when what follows fails. */
function withFreshToken<T>(ceremony: Ceremony, pin: string, soPin: string, fill: (session: TokenSession) => T): T {
  const { module, label } = ceremony;
  if (Buffer.byteLength(label) > 32) throw new HsmError('token-missing', `a token label has up to 32 bytes: ${label}`);
  if (module.tokenInfo(label)) throw new HsmError('token-missing', `there is a token labelled ${label} already; it is left as it is`);
  module.initialiseToken(label, soPin);
  try {
    setPin(module.openSession(label), pin, soPin);
    const session = module.openSession(label);
    try {
      session.login(pin);
      return fill(session);
    } finally {
      session.close();
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const code = error instanceof HsmError ? error.code : 'token-down';
    throw new HsmError(
      code,
      `${why}. The token labelled ${label} is half made: delete it before the next try (SoftHSM: softhsm2-util --delete-token --token ${label})`,
    );
  }
}

function setPin(session: TokenSession, pin: string, soPin: string): void {
  try {
    session.login(soPin, 'security officer');
    session.initialisePin(pin);
    session.logout();
  } finally {
    session.close();
  }
}

const named = (label: string) => ({ label, id: Buffer.from(label) });
const kekUse = (label: string) => ({ ...RESIDENT, ...NO_USE, wrap: true, unwrap: true, ...named(label) });
const RECORDS = { ...RESIDENT, ...NO_USE, sign: true, verify: true, ...named(LABEL.records) };
const SEAL = { ...RESIDENT, ...NO_USE, encrypt: true, decrypt: true, ...named(LABEL.seal) };
const signingUse = (label: string) => ({ ...RESIDENT, sign: true, decrypt: false, unwrap: false, derive: false, ...named(label) });
const publicUse = (label: string) => ({
  token: true,
  private: false,
  modifiable: false,
  verify: true,
  encrypt: false,
  wrap: false,
  ...named(label),
});
/** A key that can be wrapped for the custodians before it takes service. */
const PASSING = { token: false, private: true, sensitive: true, extractable: true } as const;

/** Makes the keys of a new token; with custodians, each is wrapped for them on its way into service. */
class KeyMaking {
  readonly entries: CustodyEntry[] = [];

  constructor(
    private readonly session: TokenSession,
    private readonly ceremony: Pick<Ceremony, 'profile'>,
    private readonly custody: { seal: CustodySeal; publicKey: Buffer } | undefined,
  ) {}

  /** Made and looked for before anything else: in SoftHSM our own writing would hide what the helper's process wrote. */
  kek(id: string, pin: string, ceremony: Ceremony): Handle {
    const { session, custody } = this;
    const { mechanisms, quirks } = ceremony.profile;
    const label = LABEL.kek(id);
    if (quirks.unwrapTemplate) {
      const said = runHelper(ceremony, label, custody ? ['backup', pin, modulusOf(custody.publicKey)] : [undefined, pin]);
      if (custody) this.entries.push({ label, kind: 'kek', envelope: { key: Buffer.from(said, 'hex') } });
      return findKek(session, label);
    }
    // Without CKA_UNWRAP_TEMPLATE, for a token that knows none; native/kek.c makes the same key with it.
    this.#secret('kek', { number: mechanisms.aesKeyGen }, KEY.aes, kekUse(label));
    return findKek(session, label);
  }

  rest(authorities: AuthorityKind): void {
    const { mechanisms } = this.ceremony.profile;
    this.#secret('generic', { number: mechanisms.genericSecretKeyGen }, KEY.genericSecret, RECORDS);
    this.#secret('aes', { number: mechanisms.aesKeyGen }, KEY.aes, SEAL);
    const algorithms = signingAlgorithms(authorities, mechanisms.eddsa === undefined ? 'p256' : 'ed25519');
    for (const name of SIGNING_KEYS) this.signing(name, algorithms[name]);
  }

  #secret(
    kind: CustodyKind,
    mechanism: { number: number },
    type: typeof KEY.aes | typeof KEY.genericSecret,
    resident: Template & { label: string },
  ): void {
    if (!this.custody) {
      this.session.generateKey(mechanism, { ...type, ...resident, valueLength: 32 });
      return;
    }
    const passing = this.session.generateKey(mechanism, { ...type, ...PASSING, valueLength: 32 });
    this.entries.push({ label: resident.label, kind, envelope: this.custody.seal.settle(kind, passing, resident) });
  }

  signing(name: SigningKeyName, algorithm: SigningAlgorithm, n = 1): void {
    const { session, ceremony, custody } = this;
    const label = LABEL.signing(name, n);
    const kind = KIND_OF[algorithm];
    // An Ed25519 key cannot be wrapped as what it is; read once, it goes the way of a secret (custody-keys.ts).
    const made = custody ? { ...PASSING, sensitive: kind !== 'ed25519', sign: true } : signingUse(label);
    const pair = generateSigningPair(session, ceremony.profile, algorithm, publicUse(label), made);
    if (!custody) return;
    const publicKey = kind === 'rsa' ? readRsaSpki(session, pair.publicKey) : readCurveSpki(session, pair.publicKey, CURVE_OF[kind]);
    this.entries.push({ label, kind, publicKey, envelope: custody.seal.settle(kind, pair.privateKey, signingUse(label)) });
  }
}

/**
 * Makes the n-th signing key of a name beside those that serve, with the algorithm of the one before. With custodians it is wrapped for them on its way.
 * @param custodyKey SPKI of the key that everything is wrapped for
 */
export function makeLaterKey(
  session: TokenSession,
  profile: TokenProfile,
  custodyKey: Buffer | undefined,
  key: { name: SigningKeyName; n: number; algorithm: SigningAlgorithm },
): CustodyEntry | undefined {
  const custody = custodyKey && { seal: new CustodySeal(session, profile, custodyKey), publicKey: custodyKey };
  const making = new KeyMaking(session, { profile }, custody);
  making.signing(key.name, key.algorithm, key.n);
  return making.entries[0];
}

/** Takes the n-th signing key of a name out of the token, private and public part. */
export function destroyLaterKey(session: TokenSession, name: SigningKeyName, n: number): void {
  for (const { class: kind } of [KEY.ecPrivate, KEY.ecPublic])
    for (const handle of session.find({ class: kind, token: true, label: LABEL.signing(name, n) })) session.destroy(handle);
}

const KIND_OF = {
  ed25519: 'ed25519',
  'ecdsa-p256-sha256': 'p256',
  'ecdsa-p384-sha384': 'p384',
  'rsa-pkcs1-sha384': 'rsa',
} as const satisfies Record<SigningAlgorithm, CustodyKind>;
const CURVE_OF = { p256: 'P-256', p384: 'P-384', ed25519: 'Ed25519' } as const;

function restoreKek(
  session: TokenSession,
  ceremony: Ceremony,
  pin: string,
  opening: CustodyOpening,
  entry: CustodyEntry,
  { ceremonyKey, custody }: { ceremonyKey: Buffer; custody: Pick<CustodyPackage, 'custodyKey'> },
): Handle {
  if (!ceremony.profile.quirks.unwrapTemplate || entry.envelope.content) opening.take(entry, kekUse(entry.label));
  else {
    const secrets = [ceremonyKey, custody.custodyKey.wrapped, entry.envelope.key].map((bytes) => bytes.toString('hex'));
    runHelper(ceremony, entry.label, ['restore', pin, ...secrets]);
  }
  return findKek(session, entry.label);
}

function restoreKey(session: TokenSession, opening: CustodyOpening, entry: CustodyEntry): void {
  const { label, kind, publicKey } = entry;
  if (label === LABEL.records) opening.take(entry, RECORDS);
  else if (label === LABEL.seal) opening.take(entry, SEAL);
  else {
    if (!publicKey) throw new HsmError('blob-corrupt', `the package holds no public key for ${label}`);
    opening.take(entry, signingUse(label));
    session.create({ ...publicObject(kind, publicKey), ...publicUse(label) });
  }
}

/** Of an RSA key, in hexadecimal, as native/kek.c takes it. */
export const modulusOf = (spki: Buffer): string =>
  Buffer.from(createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ format: 'jwk' }).n ?? '', 'base64url').toString('hex');

/** What native/kek.c is told of the mechanisms. */
export function helperArguments(profile: TokenProfile): string[] {
  const { oaep } = oaepOf(profile);
  return oaep ? [profile.mechanisms.kwp, oaep.hash, oaep.mgf].map(String) : [];
}

/** native/kek.c; `lines` go to its standard input. */
function runHelper(
  { module, label, kekHelper, profile }: Ceremony,
  kekLabel: string,
  [mode, ...lines]: [string | undefined, ...string[]],
): string {
  const more = mode ? [mode, ...helperArguments(profile)] : [];
  const { status, stdout, stderr, error } = spawnSync(kekHelper, [module.path, label, kekLabel, ...more], {
    input: lines.join('\n'),
    timeout: 60_000,
  });
  if (error)
    throw new HsmError(
      'mechanism-missing',
      `the key-making helper ${kekHelper} does not run (native/build.sh builds it): ${error.message}`,
    );
  if (status !== 0)
    throw new HsmError(
      mode === 'restore' ? 'blob-corrupt' : 'mechanism-missing',
      stderr.toString().trim() || `${kekHelper} ended with ${status}`,
    );
  return stdout.toString();
}

function findKek(session: TokenSession, label: string): Handle {
  const [kek] = session.find({ ...KEY.aes, token: true, label });
  if (!kek) throw new HsmError('kek-missing', 'the key-encryption key was made but is not found');
  return kek;
}

function generateSigningPair(session: TokenSession, profile: TokenProfile, algorithm: SigningAlgorithm, open: Template, made: Template) {
  if (algorithm === 'rsa-pkcs1-sha384') {
    const size = { modulusBits: 4096, publicExponent: Buffer.from('010001', 'hex') };
    return session.generateKeyPair(
      { number: profile.mechanisms.rsaKeyPairGen },
      { ...KEY.rsaPublic, ...open, ...size },
      { ...KEY.rsaPrivate, ...made },
    );
  }
  return generateCurvePair(session, profile, CURVE_OF[KIND_OF[algorithm]], open, made);
}

/** A private key that nobody ever uses, wrapped under the KEK. */
function makeCanary(session: TokenSession, profile: TokenProfile, kek: Handle): Buffer {
  const passing = { token: false, private: true, sensitive: true, extractable: true };
  const pair = generateCurvePair(session, profile, 'P-256', { token: false, private: false }, passing);
  try {
    return session.wrap({ number: profile.mechanisms.kwp }, kek, pair.privateKey);
  } finally {
    session.destroy(pair.privateKey);
    session.destroy(pair.publicKey);
  }
}

function generateCurvePair(session: TokenSession, profile: TokenProfile, curve: Curve, publicKey: Template, privateKey: Template) {
  const edwards = curve === 'Ed25519';
  return session.generateKeyPair(
    { number: edwards ? edwardsOf(profile).keyPairGen : profile.mechanisms.ecKeyPairGen },
    { ...(edwards ? KEY.edwardsPublic : KEY.ecPublic), ...publicKey, ecParameters: CURVES[curve] },
    { ...(edwards ? KEY.edwardsPrivate : KEY.ecPrivate), ...privateKey },
  );
}
