import { createPublicKey } from 'node:crypto';
import type { CustodyEntry, CustodyKind, Envelope } from '../custody/package.js';
import { HsmError } from '../hsm.js';
import { type Handle, KEY, type Mechanism, type Template, type TokenSession } from './module.js';
import type { TokenProfile } from './profile.js';
import { CURVES, readRsaSpki, rsaRecipient } from './public-keys.js';

/** Lives in this session, and can be wrapped. */
const PASSING = { token: false, private: true, sensitive: true, extractable: true } as const;
/** RSA modulus of the custody key in bits. */
const CUSTODY_BITS = 3072;
const EXPONENT = Buffer.from('010001', 'hex');

const TYPE: Record<CustodyKind, (typeof KEY)[keyof typeof KEY]> = {
  kek: KEY.aes,
  aes: KEY.aes,
  generic: KEY.genericSecret,
  p256: KEY.ecPrivate,
  p384: KEY.ecPrivate,
  ed25519: KEY.edwardsPrivate,
  rsa: KEY.rsaPrivate,
};

export const oaepOf = ({ mechanisms, oaep }: TokenProfile): Mechanism => {
  const parameters = oaep.hashes[oaep.release];
  if (!parameters) throw new HsmError('mechanism-missing', `this token does no RSA-OAEP with ${oaep.release}`);
  return { number: mechanisms.rsaOaep, oaep: parameters };
};

/**
 * Makes the ceremony key (its value is given back, to be split) and the custody key, whose private part is wrapped under it. Both leave the
 * token with this session; what stays is whom to wrap for.
 */
export function makeCustodyKey(session: TokenSession, profile: TokenProfile): { ceremonyKey: Buffer; publicKey: Buffer; wrapped: Buffer } {
  const once = session.generateKey(
    { number: profile.mechanisms.aesKeyGen },
    { ...KEY.aes, token: false, private: true, sensitive: false, extractable: true, wrap: true, valueLength: 32 },
  );
  const pair = session.generateKeyPair(
    { number: profile.mechanisms.rsaKeyPairGen },
    { ...KEY.rsaPublic, token: false, private: false, modulusBits: CUSTODY_BITS, publicExponent: EXPONENT },
    { ...KEY.rsaPrivate, ...PASSING },
  );
  try {
    const wrapped = session.wrap({ number: profile.mechanisms.kwp }, once, pair.privateKey);
    return { ceremonyKey: Buffer.from(session.read(once, 'value')), publicKey: readRsaSpki(session, pair.publicKey), wrapped };
  } finally {
    for (const handle of [once, pair.privateKey, pair.publicKey]) session.destroy(handle);
  }
}

/** Wraps keys for the custodians while they can still be wrapped, and puts into service what came out of that very wrapping. */
export class CustodySeal {
  constructor(
    private readonly session: TokenSession,
    private readonly profile: TokenProfile,
    private readonly custodyKey: Buffer,
  ) {}

  /**
   * A session key that can be wrapped takes service as the token's own key with these attributes: it is unwrapped from the bytes that the
   * custodians' copy consists of. The passing key is destroyed.
   */
  settle(kind: CustodyKind, passing: Handle, resident: Template): Envelope {
    const { session } = this;
    try {
      if (kind !== 'ed25519')
        return this.#carried(passing, (carrier, content) => unwrapAs(session, this.#kwp, carrier, content, kind, resident));
      // Not wrappable as what it is (facts: SoftHSM answers CKR_KEY_NOT_WRAPPABLE): its 32 bytes are, as a secret.
      const value = session.read(passing, 'value');
      const envelope = this.wrapValue(value);
      session.create({ ...KEY.edwardsPrivate, ...resident, ecParameters: CURVES.Ed25519, value });
      value.fill(0);
      return envelope;
    } finally {
      session.destroy(passing);
    }
  }

  /** Another copy of what the custodians have, for a new custody key. The key in service is not touched. */
  reseal(opening: CustodyOpening, entry: CustodyEntry): CustodyEntry {
    const { session, profile } = this;
    if (entry.kind === 'ed25519') {
      const value = opening.value(entry.envelope, entry.label);
      try {
        return { ...entry, envelope: this.wrapValue(value) };
      } finally {
        value.fill(0);
      }
    }
    const key = opening.take(entry, PASSING);
    try {
      if (entry.envelope.content) return { ...entry, envelope: this.#carried(key, () => undefined) };
      // As native/kek.c writes a KEK: the secret itself under the custody key.
      const recipient = session.create(rsaRecipient(this.custodyKey));
      try {
        return { ...entry, envelope: { key: session.wrap(oaepOf(profile), recipient, key) } };
      } finally {
        session.destroy(recipient);
      }
    } finally {
      session.destroy(key);
    }
  }

  /** A secret of the host's own, wrapped for the custodians. */
  wrapValue(value: Buffer): Envelope {
    const secret = this.session.create({ ...KEY.genericSecret, ...PASSING, value });
    try {
      return this.#carried(secret, () => undefined);
    } finally {
      this.session.destroy(secret);
    }
  }

  #carried(key: Handle, use: (carrier: Handle, content: Buffer) => void): Envelope {
    const { session, profile } = this;
    const carrier = session.generateKey(
      { number: profile.mechanisms.aesKeyGen },
      { ...KEY.aes, ...PASSING, valueLength: 32, wrap: true, unwrap: true },
    );
    const recipient = session.create(rsaRecipient(this.custodyKey));
    try {
      const content = session.wrap(this.#kwp, carrier, key);
      const envelope = { key: session.wrap(oaepOf(profile), recipient, carrier), content };
      use(carrier, content);
      return envelope;
    } finally {
      session.destroy(recipient);
      session.destroy(carrier);
    }
  }

  get #kwp(): Mechanism {
    return { number: this.profile.mechanisms.kwp };
  }
}

/** Opens what was wrapped for the custodians, with the key that their shares gave back. HsmError `blob-corrupt` when a blob does not open. */
export class CustodyOpening {
  readonly #custody: Handle;
  readonly #kwp: Mechanism;

  constructor(
    private readonly session: TokenSession,
    private readonly profile: TokenProfile,
    ceremonyKey: Buffer,
    wrapped: Buffer,
  ) {
    this.#kwp = { number: profile.mechanisms.kwp };
    const once = session.create({ ...KEY.aes, token: false, private: true, sensitive: true, unwrap: true, value: ceremonyKey });
    try {
      this.#custody = session.unwrap(this.#kwp, once, wrapped, {
        ...KEY.rsaPrivate,
        token: false,
        private: true,
        sensitive: true,
        extractable: false,
        unwrap: true,
      });
    } catch {
      throw new HsmError('blob-corrupt', 'the shares do not open the custody key of this package');
    } finally {
      session.destroy(once);
    }
  }

  /** Takes a key into the token with these attributes. */
  take({ label, kind, envelope }: CustodyEntry, template: Template): Handle {
    if (kind === 'ed25519') {
      const value = this.value(envelope, label);
      try {
        return this.session.create({ ...KEY.edwardsPrivate, ...template, ecParameters: CURVES.Ed25519, value });
      } finally {
        value.fill(0);
      }
    }
    return this.#open(envelope, label, (under, content) =>
      content
        ? unwrapAs(this.session, this.#kwp, under, content, kind, template)
        : unwrapAs(this.session, oaepOf(this.profile), this.#custody, envelope.key, kind, template),
    );
  }

  /** The bytes of a host's secret. */
  value(envelope: Envelope, what: string): Buffer {
    const readable = { token: false, private: true, sensitive: false, extractable: true } as const;
    const handle = this.#open(envelope, what, (carrier, content) =>
      unwrapAs(this.session, this.#kwp, carrier, content ?? Buffer.alloc(0), 'generic', readable),
    );
    try {
      return Buffer.from(this.session.read(handle, 'value'));
    } finally {
      this.session.destroy(handle);
    }
  }

  close(): void {
    this.session.destroy(this.#custody);
  }

  #open(envelope: Envelope, what: string, use: (carrier: Handle, content: Buffer | undefined) => Handle): Handle {
    try {
      if (!envelope.content) return use(this.#custody, undefined);
      const carrier = this.session.unwrap(oaepOf(this.profile), this.#custody, envelope.key, {
        ...KEY.aes,
        token: false,
        private: true,
        sensitive: true,
        unwrap: true,
      });
      try {
        return use(carrier, envelope.content);
      } finally {
        this.session.destroy(carrier);
      }
    } catch (error) {
      if (!(error instanceof HsmError)) throw error;
      throw new HsmError('blob-corrupt', `the custodians' copy of ${what} does not open (${error.message})`);
    }
  }
}

const unwrapAs = (
  session: TokenSession,
  mechanism: Mechanism,
  under: Handle,
  content: Buffer,
  kind: CustodyKind,
  template: Template,
): Handle => session.unwrap(mechanism, under, content, { ...TYPE[kind], ...template });

/** The public object that goes with a signing key, from its SubjectPublicKeyInfo. */
export function publicObject(kind: CustodyKind, spki: Buffer): Template {
  const jwk = createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ format: 'jwk' });
  const bytes = (text: string | undefined) => Buffer.from(text ?? '', 'base64url');
  // CKA_EC_POINT is a DER OCTET STRING (PKCS#11 §2.3.3).
  const point = (raw: Buffer) => Buffer.concat([Buffer.of(0x04, raw.length), raw]);
  switch (kind) {
    case 'rsa':
      return { ...KEY.rsaPublic, modulus: bytes(jwk.n), publicExponent: bytes(jwk.e) };
    case 'ed25519':
      return { ...KEY.edwardsPublic, ecParameters: CURVES.Ed25519, ecPoint: point(bytes(jwk.x)) };
    default:
      return {
        ...KEY.ecPublic,
        ecParameters: CURVES[kind === 'p384' ? 'P-384' : 'P-256'],
        ecPoint: point(Buffer.concat([Buffer.of(0x04), bytes(jwk.x), bytes(jwk.y)])),
      };
  }
}
