import { constants, generateKeyPairSync, privateDecrypt, randomBytes } from 'node:crypto';
import type { OaepHash } from '../hsm.js';
import type { TokenFinding as Finding } from '../token.js';
import { type AttributeName, type Handle, KEY, type Pkcs11Module, type Template, TokenRefusal, type TokenSession } from './module.js';
import type { Pkcs11Token } from './pkcs11-hsm.js';
import { rsaRecipient } from './public-keys.js';
import { findTokenKeys, LABEL } from './token-keys.js';

/** What is tried on: a session of its own, whose end takes all throw-away objects with it. */
interface Bench {
  session: TokenSession;
  token: Pkcs11Token;
  keks: Map<string, Handle>;
  /** The KEK that opens the canary. */
  kek: Handle;
}

const PASSING = { token: false, private: true, sensitive: true } as const;
const CANARY = { ...KEY.ecPrivate, ...PASSING, extractable: true } as const;

/** Really tries what this token enforces. Nothing stays behind. Throws HsmError where the token cannot even be asked. */
export function inspectToken(module: Pkcs11Module, token: Pkcs11Token, pin?: string): Finding[] {
  const session = module.openSession(token.label);
  try {
    if (pin !== undefined) session.login(pin);
    const { keks, activeKek } = findTokenKeys(session);
    const opening = [...keks].find(([, kek]) => !refusal(() => openCanary({ session, token }, kek, CANARY)));
    // The active KEK is there: activeKek is one of its own ids.
    const bench = { session, token, keks, kek: opening?.[1] ?? (keks.get(activeKek) as Handle) };
    return [
      ...[...keks].map(([id, kek]) => inspectKek(bench, id, kek)),
      inspectUnwrapTemplate(bench),
      inspectForeignKey(bench),
      inspectValues(bench),
      inspectOaep(bench),
      inspectPadding(bench),
      inspectPin(module, token),
      inspectPlace(token),
    ];
  } finally {
    session.close();
  }
}

/** The token's own word of refusal, or undefined when it did as it was asked. */
function refusal(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof TokenRefusal) return error.ckr;
    throw error;
  }
}

const openCanary = ({ session, token }: Pick<Bench, 'session' | 'token'>, kek: Handle, template: Template): Handle =>
  session.unwrap({ number: token.profile.mechanisms.kwp }, kek, token.canary, template);

function inspectKek({ session }: Bench, id: string, kek: Handle): Finding {
  const is = (attribute: AttributeName): boolean => {
    let value = false;
    refusal(() => {
      value = session.read(kek, attribute)[0] === 1;
    });
    return value;
  };
  const wrong = [
    ...(['sensitive', 'wrap', 'unwrap'] as const).filter((attribute) => !is(attribute)).map((attribute) => `not ${attribute}`),
    ...(['extractable', 'encrypt', 'decrypt', 'sign', 'verify', 'derive', 'modifiable', 'copyable'] as const).filter(is),
  ];
  const name = `the key-encryption key ${LABEL.kek(id)}`;
  if (wrong.length > 0) return { check: 'kek', verdict: 'bad', words: `${name} should be otherwise; it is ${wrong.join(', ')}` };
  if (!is('neverExtractable') || !is('alwaysSensitive'))
    return { check: 'kek', verdict: 'warn', words: `${name} is sealed, but could once be exported (for its backup)` };
  return {
    check: 'kek',
    verdict: 'good',
    words: `${name} never was readable, wraps and unwraps only, and can be neither changed nor copied`,
  };
}

function inspectUnwrapTemplate(bench: Bench): Finding {
  const forms: Template[] = [
    { ...CANARY, sensitive: false },
    { ...CANARY, ...KEY.genericSecret, sensitive: false },
  ];
  const refusals = forms.map((form) => refusal(() => openCanary(bench, bench.kek, form)));
  if (refusals.every((ckr) => ckr === 'CKR_TEMPLATE_INCONSISTENT'))
    return {
      check: 'unwrap-template',
      verdict: 'good',
      words: 'the KEK makes nothing but private, sensitive keys of what it unwraps (CKA_UNWRAP_TEMPLATE is enforced)',
    };
  return {
    check: 'unwrap-template',
    verdict: bench.token.profile.quirks.unwrapTemplate ? 'bad' : 'warn',
    words:
      'the KEK has no unwrap template, or the token does not keep to it: who holds the PIN can unwrap an employee’s key so that it can be read',
  };
}

/** The other way to a key's value, which no unwrap template closes: wrap it under a key that one knows. */
function inspectForeignKey(bench: Bench): Finding {
  const { session, token } = bench;
  const refused = refusal(() => {
    const known = session.create({ ...KEY.aes, ...PASSING, value: randomBytes(32), wrap: true, extractable: true });
    session.wrap({ number: token.profile.mechanisms.kwp }, known, openCanary(bench, bench.kek, CANARY));
  });
  return refused
    ? { check: 'foreign-wrapping-key', verdict: 'good', words: `a wrapping key brought from outside is refused (${refused})` }
    : {
        check: 'foreign-wrapping-key',
        verdict: 'warn',
        words: 'who holds the PIN can bring a wrapping key of his own and carry keys out under it; only guarding the PIN helps',
      };
}

function inspectValues(bench: Bench): Finding {
  const { session, kek } = bench;
  const readable = [
    ...(refusal(() => session.read(kek, 'value')) ? [] : ['the KEK']),
    ...(refusal(() => session.read(openCanary(bench, kek, CANARY), 'value')) ? [] : ['an unwrapped private key']),
  ];
  return readable.length === 0
    ? { check: 'key-values', verdict: 'good', words: 'the values of the KEK and of unwrapped private keys cannot be read' }
    : { check: 'key-values', verdict: 'bad', words: `readable: ${readable.join(' and ')}` };
}

function inspectOaep({ session, token }: Bench): Finding {
  const { oaep, mechanisms } = token.profile;
  const device = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const recipient = session.create(rsaRecipient(device.publicKey.export({ format: 'der', type: 'spki' })));
  const cek = session.generateKey({ number: mechanisms.aesKeyGen }, { ...KEY.aes, ...PASSING, valueLength: 32, extractable: true });
  const works = (oaepHash: OaepHash): boolean => {
    const parameters = oaep.hashes[oaepHash];
    if (!parameters) return false;
    try {
      const wrapped = session.wrap({ number: mechanisms.rsaOaep, oaep: parameters }, recipient, cek);
      return privateDecrypt({ key: device.privateKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, wrapped).length === 32;
    } catch {
      return false;
    }
  };
  const hashes = (['sha1', 'sha256'] as const).filter(works);
  if (!hashes.includes(oaep.release))
    return { check: 'oaep', verdict: 'bad', words: `RSA-OAEP with ${oaep.release}, which the profile wants for deliveries, does not work` };
  return { check: 'oaep', verdict: 'good', words: `RSA-OAEP works with ${hashes.join(' and ')}; deliveries are made with ${oaep.release}` };
}

function inspectPadding({ session, token }: Bench): Finding {
  const { mechanisms } = token.profile;
  const { privateKey } = session.generateKeyPair(
    { number: mechanisms.rsaKeyPairGen },
    { ...KEY.rsaPublic, token: false, private: false, modulusBits: 2048, publicExponent: Buffer.from('010001', 'hex') },
    { ...KEY.rsaPrivate, ...PASSING, extractable: false, unwrap: true },
  );
  // Below the modulus, for its first byte is 0; raised to the private exponent it is no PKCS#1 v1.5 block, but once in 2^16.
  // SoftHSM answers as the OpenSSL does that it finds in this process: Node's own since 3.2 rejects implicitly, with random bytes.
  const noise = Buffer.concat([Buffer.alloc(1), randomBytes(255)]);
  const refused = refusal(() =>
    session.unwrap({ number: mechanisms.rsaPkcs }, privateKey, noise, { ...KEY.genericSecret, ...PASSING, extractable: true }),
  );
  return refused
    ? {
        check: 'padding-oracle',
        verdict: 'warn',
        words: `the token itself tells a bad PKCS#1 v1.5 padding from a good one (${refused}); EKMS answers a random key instead, by the same path`,
      }
    : { check: 'padding-oracle', verdict: 'good', words: 'the token does not tell a bad PKCS#1 v1.5 padding from a good one' };
}

function inspectPin(module: Pkcs11Module, { label }: Pkcs11Token): Finding {
  const info = module.tokenInfo(label);
  if (info?.pinLocked) return { check: 'pin', verdict: 'bad', words: 'the user PIN is locked; the security officer’s PIN sets a new one' };
  if (info?.pinCountLow)
    return { check: 'pin', verdict: 'warn', words: 'a wrong user PIN was given since the last right one: find out who tried' };
  return { check: 'pin', verdict: 'good', words: 'no wrong user PIN since the last right one' };
}

function inspectPlace({ profile }: Pkcs11Token): Finding {
  return profile.quirks.software
    ? {
        check: 'software',
        verdict: 'warn',
        words: `${profile.name} is software: while a call runs, the key is in the memory of the token process, and root can read it`,
      }
    : { check: 'software', verdict: 'good', words: `${profile.name}: keys stay inside the device, says its profile` };
}
