import { spawnSync } from 'node:child_process';
import { HsmError, SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import { type AuthorityKind, signingAlgorithms } from '../signing-keys.js';
import { type Handle, KEY, type Pkcs11Module, type Template, type TokenSession } from './module.js';
import type { TokenProfile } from './profile.js';
import { CURVES, type Curve } from './public-keys.js';
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

/**
 * Makes a token with all of EKMS's keys in it, and gives back the canary, which the caller keeps beside the token's settings. A token of
 * that label must not exist yet. PINs go to the module in memory and to the helper on its standard input, never as arguments.
 */
export function initialiseToken(ceremony: Ceremony, pin: string, soPin: string): { canary: Buffer } {
  const { module, label } = ceremony;
  if (Buffer.byteLength(label) > 32) throw new HsmError('token-missing', `a token label has up to 32 bytes: ${label}`);
  if (module.tokenInfo(label)) throw new HsmError('token-missing', `there is a token labelled ${label} already; it is left as it is`);
  module.initialiseToken(label, soPin);
  try {
    setPin(module.openSession(label), pin, soPin);
    if (ceremony.profile.quirks.unwrapTemplate) makeKekByHelper(ceremony, pin);
    const session = module.openSession(label);
    try {
      session.login(pin);
      return { canary: makeKeys(session, ceremony) };
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

function makeKeys(session: TokenSession, ceremony: Ceremony): Buffer {
  const { mechanisms, quirks } = ceremony.profile;
  // Looked for before anything else is made: in SoftHSM our own writing would hide what the helper's process wrote.
  const kek = quirks.unwrapTemplate ? findKek(session) : makeKek(session, ceremony.profile);
  session.generateKey(
    { number: mechanisms.genericSecretKeyGen },
    { ...KEY.genericSecret, ...RESIDENT, ...NO_USE, valueLength: 32, sign: true, verify: true, ...named(LABEL.records) },
  );
  session.generateKey(
    { number: mechanisms.aesKeyGen },
    { ...KEY.aes, ...RESIDENT, ...NO_USE, valueLength: 32, encrypt: true, decrypt: true, ...named(LABEL.seal) },
  );
  const algorithms = signingAlgorithms(ceremony.authorities);
  for (const name of SIGNING_KEYS) makeSigningKey(session, ceremony.profile, name, algorithms[name]);
  return makeCanary(session, ceremony.profile, kek);
}

const named = (label: string) => ({ label, id: Buffer.from(label) });

/** Without CKA_UNWRAP_TEMPLATE, for a token that knows none; native/kek.c makes the same key with it. */
function makeKek(session: TokenSession, { mechanisms }: TokenProfile): Handle {
  const template = { ...KEY.aes, ...RESIDENT, ...NO_USE, valueLength: 32, wrap: true, unwrap: true, ...named(LABEL.kek(FIRST_KEK)) };
  return session.generateKey({ number: mechanisms.aesKeyGen }, template);
}

function makeKekByHelper({ module, label, kekHelper }: Ceremony, pin: string): void {
  const { status, stderr, error } = spawnSync(kekHelper, [module.path, label, LABEL.kek(FIRST_KEK)], { input: pin, timeout: 60_000 });
  if (error)
    throw new HsmError(
      'mechanism-missing',
      `the key-making helper ${kekHelper} does not run (native/build.sh builds it): ${error.message}`,
    );
  if (status !== 0) throw new HsmError('mechanism-missing', stderr.toString().trim() || `${kekHelper} ended with ${status}`);
}

function findKek(session: TokenSession): Handle {
  const [kek] = session.find({ ...KEY.aes, label: LABEL.kek(FIRST_KEK) });
  if (!kek) throw new HsmError('kek-missing', 'the key-encryption key was made but is not found');
  return kek;
}

function makeSigningKey(session: TokenSession, profile: TokenProfile, name: SigningKeyName, algorithm: SigningAlgorithm): void {
  const resident = { ...RESIDENT, sign: true, decrypt: false, unwrap: false, derive: false, ...named(LABEL.signing(name)) };
  const open = { token: true, private: false, modifiable: false, verify: true, encrypt: false, wrap: false, ...named(LABEL.signing(name)) };
  if (algorithm === 'rsa-pkcs1-sha384') {
    const size = { modulusBits: 4096, publicExponent: Buffer.from('010001', 'hex') };
    session.generateKeyPair(
      { number: profile.mechanisms.rsaKeyPairGen },
      { ...KEY.rsaPublic, ...open, ...size },
      { ...KEY.rsaPrivate, ...resident },
    );
    return;
  }
  const curve = ({ ed25519: 'Ed25519', 'ecdsa-p256-sha256': 'P-256', 'ecdsa-p384-sha384': 'P-384' } as const)[algorithm];
  generateCurvePair(session, profile, curve, open, resident);
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

function generateCurvePair(session: TokenSession, { mechanisms }: TokenProfile, curve: Curve, publicKey: Template, privateKey: Template) {
  const edwards = curve === 'Ed25519';
  return session.generateKeyPair(
    { number: edwards ? mechanisms.edwardsKeyPairGen : mechanisms.ecKeyPairGen },
    { ...(edwards ? KEY.edwardsPublic : KEY.ecPublic), ...publicKey, ecParameters: CURVES[curve] },
    { ...(edwards ? KEY.edwardsPrivate : KEY.ecPrivate), ...privateKey },
  );
}
