import { createDecipheriv, createHmac, pbkdf2Sync } from 'node:crypto';
import { Fault, sameBytes } from '../../foundation/index.js';
import { children, type Element, Fields, numberOf, octetsOf, oidOf, readWhole, TAG } from '../asn1/index.js';
import { openRc2 } from '../cms/index.js';
import { type DerivationHash, derive, PURPOSE } from './derive.js';

export interface Pkcs12Content {
  /** PKCS#8 PrivateKeyInfo, DER: the caller's to wipe. */
  keys: Buffer[];
  /** DER, in the file's order. */
  certificates: Buffer[];
}

/** Rounds of key derivation in one file, all together: some seconds. Beyond that a file is made to stop whoever reads it. */
const MOST_ROUNDS = 5_000_000;
const MAX_DEPTH = 8;
const malformed = (why: string) => new Fault('malformed', 'pkcs12-malformed', `this is not a whole PKCS#12 file: ${why}`);
const wrongPhrase = () => new Fault('forbidden', 'pkcs12-passphrase', 'the pass phrase does not open this file');
const unknown = (what: string) => new Fault('malformed', 'algorithm-unsupported', `${what} is not read here`);

const DATA = '1.2.840.113549.1.7.1';
const ENCRYPTED_DATA = '1.2.840.113549.1.7.6';
/** SignedData and EnvelopedData: what [MS-CSRA] §3.1.4.2.9 has around an archived key. What is inside, no sample of it says here, so nothing is guessed. */
const SEALED = ['1.2.840.113549.1.7.2', '1.2.840.113549.1.7.3'];
/** Base64, with or without a line before it. */
const TEXT = /^(-----BEGIN |[A-Za-z0-9+/\r\n]{64})/;
const BAG = '1.2.840.113549.1.12.10.1.';
const X509_CERTIFICATE = '1.2.840.113549.1.9.22.1';
const PBE = '1.2.840.113549.1.12.1.';
const PBES2 = '1.2.840.113549.1.5.13';
const PBKDF2 = '1.2.840.113549.1.5.12';
const PBMAC1 = '1.2.840.113549.1.5.14';

const DIGEST: Readonly<Record<string, DerivationHash>> = {
  '1.3.14.3.2.26': 'sha1',
  '2.16.840.1.101.3.4.2.4': 'sha224',
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};
const HMAC: Readonly<Record<string, DerivationHash>> = {
  '1.2.840.113549.2.7': 'sha1',
  '1.2.840.113549.2.8': 'sha224',
  '1.2.840.113549.2.9': 'sha256',
  '1.2.840.113549.2.10': 'sha384',
  '1.2.840.113549.2.11': 'sha512',
};
const CIPHER: Readonly<Record<string, { name: string; key: number }>> = {
  '2.16.840.1.101.3.4.1.2': { name: 'aes-128-cbc', key: 16 },
  '2.16.840.1.101.3.4.1.22': { name: 'aes-192-cbc', key: 24 },
  '2.16.840.1.101.3.4.1.42': { name: 'aes-256-cbc', key: 32 },
  '1.2.840.113549.3.7': { name: 'des-ede3-cbc', key: 24 },
};
/** RFC 7292 appendix C, but for RC4: by the last arc. */
const OLD: Readonly<Record<string, { cipher: '3des' | 'rc2'; key: number }>> = {
  '3': { cipher: '3des', key: 24 },
  '4': { cipher: '3des', key: 16 },
  '5': { cipher: 'rc2', key: 16 },
  '6': { cipher: 'rc2', key: 5 },
};

/**
 * Reads a PFX (RFC 7292 §4) in password privacy and integrity mode, in the old forms and in PBES2, with the MAC of RFC 7292 or PBMAC1 (RFC 9579).
 * Throws `pkcs12-malformed`, `pkcs12-passphrase`, `pkcs12-excessive`, `algorithm-unsupported`, `archived-key-sealed`.
 */
export function readPkcs12(file: Buffer, phrase: string | null): Pkcs12Content {
  try {
    return new Reader(phrase).read(file);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (error.code === 'asn1-malformed') throw malformed(error.message);
    if (error.code !== 'pkcs12-passphrase') throw error;
    const other = otherReading(phrase);
    if (other === undefined) throw error;
    return new Reader(phrase, other).read(file);
  }
}

/** How else the derivation of RFC 7292 §B.1 has been fed with these words; undefined where there is no other way. */
function otherReading(phrase: string | null): string | null | undefined {
  // Some write "no pass phrase" as the empty one, others as none (§B.1 names neither).
  if (phrase === '') return null;
  // OpenSSL before 1.1.0, and gpgsm, made a character of every octet of UTF-8.
  const widened = phrase === null ? null : Buffer.from(phrase, 'utf8').toString('latin1');
  return widened === phrase ? undefined : widened;
}

class Reader {
  readonly #content: Pkcs12Content = { keys: [], certificates: [] };
  #rounds = 0;

  /** @param old what the derivation of RFC 7292 is fed with, where that is not the pass phrase itself */
  constructor(
    private readonly phrase: string | null,
    private readonly old: string | null = phrase,
  ) {}

  read(file: Buffer): Pkcs12Content {
    if (TEXT.test(file.toString('latin1', 0, 64)))
      throw malformed('it is text; decode it first (openssl base64 -d, without the lines that begin with "-")');
    const whole = readWhole(file);
    const [first] = whole.tag === TAG.sequence ? children(whole) : [];
    if (first?.tag === TAG.oid && SEALED.includes(oidOf(first)))
      throw new Fault(
        'malformed',
        'archived-key-sealed',
        'this is a CMS message, as AD CS writes a key that it archived (certutil -getkey SERIAL FILE): only its key recovery agents open it; one of them makes the .pfx to be imported (certutil -recoverkey FILE OUT.pfx)',
      );
    const pfx = Fields.of(whole, TAG.sequence);
    if (numberOf(pfx.take(TAG.integer)) !== 3) throw malformed('its version is not 3');
    const safe = contentInfo(pfx.take(TAG.sequence));
    const mac = pfx.optional(TAG.sequence);
    if (safe.type !== DATA) throw unknown('a file that is signed by a certificate instead of a pass phrase');
    const bytes = octetsOf(inside(safe.content));
    if (mac) this.#checkMac(mac, bytes);
    for (const part of children(readWhole(bytes))) {
      const { type, content } = contentInfo(part);
      if (type === DATA) this.#bags(readWhole(octetsOf(inside(content))));
      else if (type === ENCRYPTED_DATA) this.#bags(this.#opened(inside(content)));
      else throw unknown('a file that is encrypted to a certificate instead of by a pass phrase');
    }
    return this.#content;
  }

  #checkMac(mac: Element, bytes: Buffer): void {
    const fields = Fields.of(mac, TAG.sequence);
    const info = Fields.of(fields.take(), TAG.sequence);
    const algorithm = Fields.of(info.take(), TAG.sequence);
    const expected = info.take(TAG.octetString).content;
    const salt = fields.take(TAG.octetString).content;
    const rounds = fields.optional(TAG.integer);
    const type = oidOf(algorithm.take());
    if (type === PBMAC1) {
      const [kdf, scheme] = algorithm.rest().flatMap(children);
      const hash = scheme && HMAC[oidOf(Fields.of(scheme, TAG.sequence).take())];
      if (!kdf || !hash) throw unknown('the MAC of this file');
      for (const key of this.#keysOf(kdf, undefined)) if (fits(hash, key, bytes, expected)) return;
      throw wrongPhrase();
    }
    const hash = DIGEST[type];
    if (!hash) throw unknown('the MAC of this file');
    const length = createHmac(hash, '').digest().length;
    const key = derive(hash, this.old, salt, this.#counted(rounds ? numberOf(rounds) : 1), PURPOSE.mac, length);
    if (!fits(hash, key, bytes, expected)) throw wrongPhrase();
  }

  /** EncryptedData (RFC 5652 §8): version, then the content's type, algorithm and octets under [0]. */
  #opened(data: Element): Element {
    const fields = Fields.of(data, TAG.sequence);
    fields.take(TAG.integer);
    const info = Fields.of(fields.take(), TAG.sequence);
    info.take(TAG.oid);
    const algorithm = info.take();
    return this.#decrypted(algorithm, octetsOf(info.take(0x80, 0xa0)));
  }

  #bags(safeContents: Element, depth = 0): void {
    if (depth > MAX_DEPTH) throw malformed('nested too deeply');
    for (const bag of children(safeContents)) {
      const fields = Fields.of(bag, TAG.sequence);
      const type = oidOf(fields.take());
      const value = inside(fields.take(0xa0));
      if (type === `${BAG}1`) this.#content.keys.push(Buffer.from(value.whole));
      if (type === `${BAG}2`) {
        const shrouded = Fields.of(value, TAG.sequence);
        const key = this.#decrypted(shrouded.take(), shrouded.take(TAG.octetString).content);
        this.#content.keys.push(Buffer.from(key.whole));
      }
      if (type === `${BAG}3`) {
        const certificate = Fields.of(value, TAG.sequence);
        if (oidOf(certificate.take()) === X509_CERTIFICATE)
          this.#content.certificates.push(Buffer.from(octetsOf(inside(certificate.take(0xa0)))));
      }
      if (type === `${BAG}6`) this.#bags(value, depth + 1);
    }
  }

  /** What is inside is one SEQUENCE; anything else is a wrong key, where no MAC said so before. */
  #decrypted(algorithm: Element, encrypted: Buffer): Element {
    for (const plain of this.#plaintexts(algorithm, encrypted))
      try {
        const whole = plain && readWhole(plain);
        if (whole?.tag === TAG.sequence) return whole;
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
      }
    throw wrongPhrase();
  }

  *#plaintexts(algorithm: Element, encrypted: Buffer): Generator<Buffer | undefined> {
    const fields = Fields.of(algorithm, TAG.sequence);
    const type = oidOf(fields.take());
    if (type === PBES2) {
      const [kdf, scheme] = children(fields.take(TAG.sequence));
      const cipher = scheme && CIPHER[oidOf(Fields.of(scheme, TAG.sequence).take())];
      if (!kdf || !cipher) throw unknown('the cipher of this file');
      const [, iv] = children(scheme);
      for (const key of this.#keysOf(kdf, cipher.key)) yield decipher(cipher.name, key, iv?.content ?? Buffer.alloc(0), encrypted);
      return;
    }
    const old = type.startsWith(PBE) ? OLD[type.slice(PBE.length)] : undefined;
    if (!old) throw unknown('the cipher of this file');
    const parameters = Fields.of(fields.take(), TAG.sequence);
    const salt = parameters.take(TAG.octetString).content;
    const rounds = this.#counted(numberOf(parameters.take()));
    const key = derive('sha1', this.old, salt, rounds, PURPOSE.key, old.key);
    const iv = derive('sha1', this.old, salt, rounds, PURPOSE.iv, 8);
    if (old.cipher === 'rc2') yield openRc2(key, old.key * 8, iv, encrypted);
    // Two keys are three, of which the last is the first again.
    else yield decipher('des-ede3-cbc', old.key === 16 ? Buffer.concat([key, key.subarray(0, 8)]) : key, iv, encrypted);
  }

  /** PBKDF2 (RFC 8018 §5.2) over the pass phrase in UTF-8, then as older NSS has it, in UTF-16 with two zero octets behind, and as it came from a Latin-1 terminal. */
  *#keysOf(kdf: Element, length: number | undefined): Generator<Buffer> {
    const fields = Fields.of(kdf, TAG.sequence);
    if (oidOf(fields.take()) !== PBKDF2) throw unknown('the key derivation of this file');
    const parameters = Fields.of(fields.take(), TAG.sequence);
    const salt = parameters.take(TAG.octetString).content;
    const rounds = this.#counted(numberOf(parameters.take(TAG.integer)));
    const said = parameters.optional(TAG.integer);
    const prf = parameters.optional(TAG.sequence);
    const hash = prf ? HMAC[oidOf(Fields.of(prf, TAG.sequence).take())] : 'sha1';
    const size = said ? numberOf(said) : length;
    if (!hash || size === undefined || size < 1 || size > 64 || (length !== undefined && size !== length))
      throw unknown('the key derivation of this file');
    const phrase = this.phrase ?? '';
    yield pbkdf2Sync(Buffer.from(phrase, 'utf8'), salt, rounds, size, hash);
    yield pbkdf2Sync(Buffer.from(`${phrase}\0`, 'utf16le').swap16(), salt, rounds, size, hash);
    const latin = Buffer.from(phrase, 'latin1');
    if (latin.length < Buffer.byteLength(phrase) && latin.toString('latin1') === phrase) yield pbkdf2Sync(latin, salt, rounds, size, hash);
  }

  #counted(rounds: number): number {
    if (rounds < 1) throw malformed('it derives its key in no rounds');
    this.#rounds += rounds;
    if (this.#rounds > MOST_ROUNDS)
      throw new Fault('too-large', 'pkcs12-excessive', `this file wants more than ${MOST_ROUNDS} rounds of key derivation`);
    return rounds;
  }
}

function contentInfo(element: Element): { type: string; content: Element } {
  const fields = Fields.of(element, TAG.sequence);
  return { type: oidOf(fields.take()), content: fields.take(0xa0) };
}

/** The one element under an explicit tag. */
function inside(element: Element): Element {
  const [only, ...more] = children(element);
  if (!only || more.length > 0) throw malformed('a field is missing');
  return only;
}

function fits(hash: string, key: Buffer, bytes: Buffer, expected: Buffer): boolean {
  const digest = createHmac(hash, key).update(bytes).digest();
  return digest.length === expected.length && sameBytes(digest, expected);
}

/** Undefined where the padding does not fit. */
function decipher(name: string, key: Buffer, iv: Buffer, encrypted: Buffer): Buffer | undefined {
  try {
    const open = createDecipheriv(name, key, iv);
    return Buffer.concat([open.update(encrypted), open.final()]);
  } catch {
    return undefined;
  }
}
