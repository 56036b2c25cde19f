import { fromBase64, HASH_BYTES } from '../../codec/merkle/index.js';
import { Fault } from '../../foundation/index.js';

/** The body of `add-checkpoint` (https://c2sp.org/tlog-witness). */
export interface Submission {
  /** Size from which the proof leads. */
  old: number;
  proof: Buffer[];
  /** A signed note. */
  note: string;
}

/** What a client may send (tlog-witness). */
const MOST_HASHES = 63;

/** Throws `submission-malformed` for what is not in its one spelling. */
export function parseSubmission(body: Uint8Array): Submission {
  const text = Buffer.from(body).toString('utf8');
  const end = text.indexOf('\n\n');
  const [first = '', ...lines] = text.slice(0, Math.max(end, 0)).split('\n');
  const old = /^old (0|[1-9]\d{0,15})$/.exec(first)?.[1];
  const proof = lines.map((line) => fromBase64(line));
  const isSound = old !== undefined && Number.isSafeInteger(Number(old)) && lines.length <= MOST_HASHES;
  if (!isSound || !proof.every((hash): hash is Uint8Array => hash?.length === HASH_BYTES))
    throw new Fault('malformed', 'submission-malformed', 'an old size, hashes in base64, an empty line and a signed note are expected');
  return { old: Number(old), proof: proof.map((hash) => Buffer.from(hash)), note: text.slice(end + 2) };
}
