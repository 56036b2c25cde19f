import { randomBytes } from 'node:crypto';
import { readTimeStampReply, timeStampQuery, unsigned, verifyTimeStamp } from '../../codec/timestamp.js';
import { type AuditLog, base64url, type Clock, Fault, isFault, type Storage, sameBytes } from '../../foundation/index.js';
import { type LogTree, sha256 } from '../log-tree.js';
import { post } from './post.js';

export interface TimeStampSettings {
  /** Of a time-stamp authority (RFC 3161 §3.4). */
  url: string;
  everyHours: number;
  /** Certificates (DER) that its signer's chain must end in. */
  authorities: readonly Uint8Array[];
  timeoutMs?: number;
}

/** A head, and the token over it. */
export interface StampedHead {
  size: number;
  note: string;
  token: Buffer;
  /** What the token says, and when it was asked for, ms. */
  time: number;
  made: number;
}

const HOUR = 3_600_000;
const TIMEOUT_MS = 10_000;
/** Milliseconds that the authority's clock may differ from ours before its stamp is not believed. */
const APART = 300_000;
/** What a stamp itself adds to the log. */
const OWN = 1;

/** Digest that a token is over: of the checkpoint's three lines, whoever signed them. */
export const stampedDigest = (note: string): Buffer => Buffer.from(sha256(Buffer.from(note.slice(0, note.lastIndexOf('\n\n') + 1))));

/**
 * Time stamps of heads: a third party's word that the log was so at that time, which nobody here can write later. Kept beside the log and in its exports; asked
 * for once in so many hours in which something happened. The cursor is the last head that has one.
 */
export class TimeStamps {
  constructor(
    private readonly parts: { storage: Storage; audit: AuditLog; tree: LogTree; clock: Clock },
    private readonly settings: TimeStampSettings | undefined,
  ) {}

  /** Those of the log's present name, oldest first. */
  async all(): Promise<StampedHead[]> {
    const { note } = await this.parts.tree.state();
    const sql = 'SELECT size, note, token, time, made FROM audit_timestamps WHERE origin = ? ORDER BY size';
    return note === null ? [] : this.parts.storage.all<StampedHead>(sql, [originOf(note)]);
  }

  /** Asks for one where it is time. A stamp that is not to be had, or does not hold, is an entry; the next hour tries again. */
  async stampDue(): Promise<void> {
    const { storage, audit, tree, clock } = this.parts;
    const { settings } = this;
    if (!settings) return;
    const now = clock.now().getTime();
    const last = (await this.all()).at(-1);
    const { note, signed } = await tree.state();
    if (note === null || now - (last?.made ?? 0) < settings.everyHours * HOUR || signed <= (last ? last.size + OWN : 0)) return;
    const event = { action: 'audit.timestamp', actor: { kind: 'system' } } as const;
    try {
      const { token, time } = await this.#stamp(settings, note, now);
      const root = note.split('\n')[2] ?? '';
      const facts = { size: signed, root: base64url(Buffer.from(root, 'base64')), token: base64url(sha256(token)) };
      await storage.write(async (unit) => {
        const stored = await unit.run(
          'INSERT INTO audit_timestamps (origin, size, note, token, time, made) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (origin, size) DO NOTHING',
          [originOf(note), signed, note, token, time, now],
        );
        if (stored > 0) await audit.append(unit, { ...event, outcome: 'done', facts }); // else another node was quicker
      });
    } catch (error) {
      if (!isFault(error)) throw error;
      await storage.write((unit) => audit.append(unit, { ...event, outcome: 'failed', reason: error.code, facts: { size: signed } }));
    }
  }

  async #stamp(settings: TimeStampSettings, note: string, now: number): Promise<{ token: Buffer; time: number }> {
    const imprint = stampedDigest(note);
    const nonce = unsigned(randomBytes(16));
    const token = readTimeStampReply(await ask(settings, timeStampQuery(imprint, nonce)));
    const stamp = verifyTimeStamp(token, imprint, settings.authorities);
    if (!stamp.nonce || !sameBytes(stamp.nonce, nonce)) throw wrong('is the answer to another query');
    if (Math.abs(stamp.time.getTime() - now) > APART) throw wrong('says a time that is far from ours');
    return { token, time: stamp.time.getTime() };
  }
}

const originOf = (note: string): string => note.slice(0, note.indexOf('\n'));
const wrong = (why: string) => new Fault('unavailable', 'timestamp-wrong', `the time stamp ${why}`);

/** RFC 3161 §3.4. */
async function ask({ url, timeoutMs = TIMEOUT_MS }: TimeStampSettings, query: Buffer): Promise<Buffer> {
  try {
    const { status, body } = await post(url, { type: 'application/timestamp-query', body: query, timeoutMs });
    if (status !== 200) throw new Error(`status ${status}`);
    return body;
  } catch (error) {
    throw new Fault(
      'unavailable',
      'timestamp-unreachable',
      `the time-stamp authority ${url} is not reached: ${(error as Error).message}`,
      60,
    );
  }
}
