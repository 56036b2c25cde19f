import { combine, split } from 'shamir-secret-sharing';
import { Fault, sha256 } from '../../foundation/index.js';

/** One custodian's part of a ceremony key (docs/formats/custody-share.md). Fewer than `threshold` of them say nothing about it. */
export interface Share {
  /** Id of the ceremony, 16 bytes: shares of two ceremonies do not mix. */
  ceremony: Buffer;
  threshold: number;
  total: number;
  /** 1 … total. */
  number: number;
  secret: Buffer;
}

const PREFIX = 'EKMS-SHARE-1:';
const VERSION = 1;
const ID = 16;
const CHECKSUM = 4;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** Splits into `total` shares of which any `threshold` give the key back. */
export async function splitKey(key: Buffer, of: { ceremony: Buffer; threshold: number; total: number }): Promise<Share[]> {
  const secrets = await split(new Uint8Array(key), of.total, of.threshold);
  return secrets.map((secret, index) => ({ ...of, number: index + 1, secret: Buffer.from(secret) }));
}

/**
 * The key of a ceremony. Throws `share-foreign`, `share-damaged`, `share-repeated`, `shares-too-few`, each in words that say which share it is.
 * @param digests of that ceremony's shares by number, as its package keeps them
 */
export async function combineShares(
  shares: readonly Share[],
  ceremony: Buffer,
  threshold: number,
  digests: readonly Buffer[],
): Promise<Buffer> {
  for (const share of shares) {
    const known = digests[share.number - 1];
    if (!share.ceremony.equals(ceremony) || !known)
      throw refused('share-foreign', `share ${share.number} belongs to another ceremony, or was replaced by a newer one`);
    if (!shareDigest(share).equals(known))
      throw refused('share-foreign', `share ${share.number} is not the one that is in force: it was replaced, or is damaged`);
  }
  const numbers = new Set(shares.map(({ number }) => number));
  if (numbers.size < shares.length) throw refused('share-repeated', 'one share was given twice; each custodian gives their own');
  if (numbers.size < threshold) throw refused('shares-too-few', `${numbers.size} of the ${threshold} shares that are needed were given`);
  return Buffer.from(await combine(shares.map(({ secret }) => new Uint8Array(secret))));
}

/** What the package keeps of a share, so that a wrong one is named before anything is tried with it. A share has 256 random bits. */
export const shareDigest = (share: Share): Buffer => sha256('EKMS custody share v1\n', body(share));

/** The line that is printed, put into a QR code (alphanumeric mode) and typed in again. */
export function formatShare(share: Share): string {
  const bytes = body(share);
  const text = base32(Buffer.concat([bytes, checksum(bytes)]));
  return PREFIX + (text.match(/.{1,4}/g) ?? []).join('-');
}

/** Takes the line in any grouping and case. Throws `share-malformed`, or `share-damaged` when its checksum does not hold. */
export function parseShare(text: string): Share {
  const line = text.trim().toUpperCase();
  if (!line.startsWith(PREFIX)) throw refused('share-malformed', `this is no share: it begins with ${PREFIX}`);
  const bytes = fromBase32(line.slice(PREFIX.length).replace(/[-\s]/g, ''));
  const content = bytes?.subarray(0, -CHECKSUM);
  if (!bytes || !content || content.length !== ID + 4 + 33)
    throw refused('share-damaged', 'this share has letters too many, too few or wrong ones: look at the paper again');
  if (!checksum(content).equals(bytes.subarray(-CHECKSUM)))
    throw refused('share-damaged', 'the checksum of this share does not hold: a letter is wrong');
  const [version = 0, threshold = 0, total = 0, number = 0] = content.subarray(ID, ID + 4);
  if (version !== VERSION || threshold < 2 || total < threshold || number < 1 || number > total)
    throw refused('share-malformed', 'this share was written by another version of EKMS');
  return { ceremony: content.subarray(0, ID), threshold, total, number, secret: content.subarray(ID + 4) };
}

const body = ({ ceremony, threshold, total, number, secret }: Share): Buffer =>
  Buffer.concat([ceremony, Buffer.of(VERSION, threshold, total, number), secret]);
const checksum = (bytes: Buffer): Buffer => sha256('EKMS custody share checksum v1\n', bytes).subarray(0, CHECKSUM);
const refused = (code: string, message: string) => new Fault('malformed', code, message);

/** RFC 4648 §6, without padding. */
function base32(bytes: Buffer): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return (bits.match(/.{1,5}/g) ?? []).map((five) => ALPHABET[Number.parseInt(five.padEnd(5, '0'), 2)]).join('');
}

/** Undefined unless this is the one spelling of whole bytes. */
function fromBase32(text: string): Buffer | undefined {
  if (!/^[A-Z2-7]+$/.test(text)) return undefined;
  const bits = [...text].map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const bytes = Buffer.from((bits.match(/.{8}/g) ?? []).map((eight) => Number.parseInt(eight, 2)));
  return base32(bytes) === text ? bytes : undefined;
}
