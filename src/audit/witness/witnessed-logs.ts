import {
  isWrong,
  keyId,
  type NoteKey,
  openCheckpoint,
  parseCheckpoint,
  parseNote,
  sameHash,
  signatureLine,
  toBase64,
  verifyByWebCrypto,
} from '../../codec/merkle/index.js';
import { type AuditLog, base64url, type Clock, Fault, isFault, orRefused, type Storage } from '../../foundation/index.js';
import type { AuditHead, Token } from '../../tokens/index.js';
import { sha256 } from '../log-tree.js';
import { parseSubmission, type Submission } from './submission.js';

export interface WitnessedLogsParts {
  storage: Storage;
  audit: AuditLog;
  token: Pick<Token, 'cosign' | 'witnessedHead'>;
  clock: Clock;
  /** Throws while our own log is not known to be the one it was: then what the token remembers of others may be as old. */
  requireMemory: () => void;
}

export interface WitnessedLogsSettings {
  /** Our name in cosignatures. */
  name: string;
  /** Whose heads are cosigned: each log's name and key. */
  logs: readonly NoteKey[];
}

/** `cosigned`: our signature line. `known`: the size that is remembered, where the request did not go on from there. */
export type Cosigning = { cosigned: string } | { known: number };

/** A head that its log signed: as a note with that signature alone. */
interface Opened {
  head: AuditHead;
  note: string;
}

/** Milliseconds between two entries about the same log: in between only its last head is kept. */
const TOLD_EVERY = 3_600_000;
/** Milliseconds for which the same head, shown again, gets the same line: anybody may show it, and each signature is the token's work. */
const SAME_LINE = 60_000;
/** Tries against others who show heads of the same log. */
const ATTEMPTS = 4;

/**
 * This appliance as a witness of others' logs, by https://c2sp.org/tlog-witness. What was cosigned is remembered by the token process, outside the database, so an
 * older database forgets nothing; the row here is for reading.
 */
export class WitnessedLogs {
  /** The last line about each log. */
  readonly #lines = new Map<string, { size: number; root: string; line: string; time: number }>();

  constructor(
    private readonly parts: WitnessedLogsParts,
    private readonly settings: WitnessedLogsSettings,
  ) {}

  /** What is remembered of each log that is configured, by its name in the settings. */
  async heads(): Promise<{ origin: string; size: number }[]> {
    const { storage } = this.parts;
    const rows = await storage.all<{ origin: string; size: number }>('SELECT origin, size FROM witnessed_heads ORDER BY origin');
    return this.settings.logs.map(({ name }) => rows.findLast(({ origin }) => isOf(origin, name)) ?? { origin: name, size: 0 });
  }

  /**
   * Cosigns a head that extends all that was seen of its log. Codes: `submission-malformed` (400), `checkpoint-unsigned` (403), `log-unknown` (404),
   * `proof-wrong` (422), `cosigning-unable` (503), those of the token, and those of a log that is not the one it was (503).
   */
  async add(body: Uint8Array, by: { id: string; network: string }): Promise<Cosigning> {
    const attempt = { action: 'witness.cosign', actor: { kind: 'stranger' }, request: by.id, personal: { network: by.network } } as const;
    const { storage, audit } = this.parts;
    try {
      return await orRefused({ storage, audit }, attempt, () => this.#add(body));
    } catch (error) {
      // Two heads of one size: the answer that the specification has for it is a size too.
      if (error instanceof Forked) return { known: error.size };
      throw error;
    }
  }

  /** The last head of a log that was cosigned, as a note with its log's signature and ours. `id`: SHA-256 of its name, hexadecimal. */
  async head(id: string): Promise<string> {
    const rows = await this.parts.storage.all<{ origin: string; note: string }>('SELECT origin, note FROM witnessed_heads');
    const found = rows.find(({ origin }) => logId(origin) === id);
    if (!found) throw new Fault('not-found', 'log-unknown', 'no head of this log was cosigned here');
    return found.note;
  }

  async #add(body: Uint8Array): Promise<Cosigning> {
    const submission = parseSubmission(body);
    const opened = await this.#opened(submission);
    this.parts.requireMemory();
    for (let attempt = 1; ; attempt += 1)
      try {
        return await this.#cosign(submission, opened);
      } catch (error) {
        if (!isFault(error, 'head-stale') || attempt === ATTEMPTS) throw error;
      }
  }

  /** Throws unless the log is one of ours to watch, and signed this head. */
  async #opened({ note }: Submission): Promise<Opened> {
    const signed = parseNote(note);
    const said = signed && parseCheckpoint(signed.text);
    if (!said || said.extensions.length > 0 || said.size === 0) throw malformed('this is no checkpoint of a log with entries');
    const log = this.settings.logs.find(({ name }) => isOf(said.origin, name));
    if (!log) throw new Fault('not-found', 'log-unknown', 'heads of this log are not cosigned here');
    const key = { ...log, name: said.origin };
    const checkpoint = await openCheckpoint(sha256, verifyByWebCrypto, note, key);
    const own = signed.signatures.find(({ name, keyId: id }) => name === key.name && sameHash(id, keyId(sha256, key)));
    if (isWrong(checkpoint) || !own)
      throw new Fault('forbidden', 'checkpoint-unsigned', 'the key that is known of this log did not sign this head');
    const { origin, size, root } = checkpoint;
    return { head: { origin, size, root: toBase64(root) }, note: `${signed.text}\n${signatureLine(own)}` };
  }

  async #cosign({ old, proof }: Submission, { head: to, note }: Opened): Promise<Cosigning> {
    if (old > to.size) throw malformed('the old size is above the size of the checkpoint');
    const { token } = this.parts;
    const from = (await token.witnessedHead(to.origin)) ?? { origin: to.origin, size: 0, root: '' };
    if (from.size !== old) return { known: from.size };
    if (from.size === to.size && from.root !== to.root) throw new Forked(from.size);
    const time = this.parts.clock.now().getTime();
    const last = this.#lines.get(to.origin);
    if (from.size === to.size && last?.size === to.size && last.root === to.root && Math.abs(time - last.time) < SAME_LINE) {
      await this.#keep(to, note, last.line);
      return { cosigned: last.line };
    }
    try {
      const line = await token.cosign({ name: this.settings.name, from, to, proof });
      await this.#keep(to, note, line);
      this.#lines.set(to.origin, { size: to.size, root: to.root, line, time });
      return { cosigned: line };
    } catch (error) {
      if (!isFault(error, 'head-forked')) throw error;
      throw new Fault('unprocessable', 'proof-wrong', 'the proof does not lead from the head that is remembered to this one');
    }
  }

  /** For reading, and from time to time for our own log, which thereby says what others’ logs were. */
  async #keep({ origin, size, root }: AuditHead, note: string, line: string): Promise<void> {
    const { storage, audit, clock } = this.parts;
    const now = clock.now().getTime();
    const row = await storage.one<{ size: number; told: number }>('SELECT size, told FROM witnessed_heads WHERE origin = ?', [origin]);
    if (row && row.size >= size) return;
    const isDue = !row || now - row.told >= TOLD_EVERY;
    await storage.write(async (unit) => {
      await unit.run(
        `INSERT INTO witnessed_heads (origin, size, note, told) VALUES (?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE
           SET size = excluded.size, note = excluded.note, told = excluded.told WHERE excluded.size > witnessed_heads.size`,
        [origin, size, `${note}${line}`, isDue ? now : (row?.told ?? now)],
      );
      if (!isDue) return;
      const facts = { log: origin, size, root: base64url(Buffer.from(root, 'base64')) };
      await audit.append(unit, { action: 'witness.cosign', outcome: 'done', actor: { kind: 'system' }, facts });
    });
  }
}

/** A log that was cut and accepted goes on under a longer name and the same key. */
const isOf = (origin: string, name: string): boolean => origin === name || origin.startsWith(`${name}/`);
const logId = (origin: string): string => Buffer.from(sha256(Buffer.from(origin))).toString('hex');
const malformed = (message: string) => new Fault('malformed', 'submission-malformed', message);

/** Its log signed two heads of one size. */
class Forked extends Fault {
  constructor(readonly size: number) {
    super('conflict', 'checkpoint-forked', 'its log signed another head of this size');
  }
}
