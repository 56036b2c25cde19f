import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { type Clock, Fault } from '../foundation/index.js';
import type { HeldGeneration } from './custody/completed.js';
import { SIGNING_KEYS, type SigningKeyName } from './hsm.js';
import { type AuditHead, SUCCEEDING_AUTHORITIES, type SucceedingAuthority } from './token.js';
import type { Claim } from './warden.js';

/** docs/formats/token-journal.md. Each is one line of the file. */
const entry = z.discriminatedUnion('t', [
  z.strictObject({ t: z.literal('ekms-token-journal'), v: z.literal(1) }),
  z.strictObject({ t: z.literal('floor'), id: z.string(), v: z.int() }),
  z.strictObject({ t: z.literal('block'), id: z.string() }),
  z.strictObject({ t: z.literal('unblock'), id: z.string() }),
  z.strictObject({ t: z.literal('hold'), id: z.string() }),
  z.strictObject({ t: z.literal('unhold'), id: z.string() }),
  z.strictObject({ t: z.literal('given'), kind: z.string(), n: z.int() }),
  z.strictObject({ t: z.literal('reserved'), n: z.int() }),
  z.strictObject({ t: z.literal('spent'), id: z.string(), until: z.int() }),
  z.strictObject({ t: z.literal('bootstrap-over') }),
  z.strictObject({
    t: z.literal('key'),
    name: z.enum(SIGNING_KEYS),
    n: z.int().min(2),
    /** DER, base64: of a key that has one. */
    certificate: z.string().optional(),
    /** Of the log's key: what both signed when it took over (docs/formats/audit-log.md). */
    note: z.string().optional(),
    /** When, in milliseconds since 1970; lines of before do not say it. */
    time: z.int().optional(),
  }),
  z.strictObject({ t: z.literal('retired'), name: z.enum(SUCCEEDING_AUTHORITIES), n: z.int().positive() }),
  z.strictObject({ t: z.literal('head'), origin: z.string(), size: z.int(), root: z.string() }),
  z.strictObject({ t: z.literal('witnessed'), origin: z.string(), size: z.int(), root: z.string() }),
]);
type Entry = z.infer<typeof entry>;

/** That a signing key took over from the one before. */
export interface Succession {
  name: SigningKeyName;
  /** Its number; the first of a name needs no succession. */
  n: number;
  certificate?: Buffer;
  /** Of the log's key: what both signed when it took over. */
  note?: string;
  /** When, in milliseconds since 1970; of old ones nobody knows. */
  time?: number;
}

/** An authority whose certificates count for nothing here any more. */
export interface RetiredAuthority {
  name: SucceedingAuthority;
  n: number;
}

/** What an answer needs before it may leave. */
export type JournalClaim =
  | Claim
  /** Pool pair `n` of this kind (suite and size) gets its one owner. */
  | { kind: 'give'; of: string; n: number }
  /** This enrolment makes its one device. */
  | { kind: 'spend'; id: string; expires: number };

const HEADER: Entry = { t: 'ekms-token-journal', v: 1 };
/** Pool numbers reserved by one line, so that making pairs does not cost an fsync each. What a crash leaves over is never used. */
const RESERVE = 64;
/** Size in bytes above which opening rewrites the file, if half of it says nothing any more. */
const COMPACT_ABOVE = 4 * 2 ** 20;
/** A restore goes on with the next multiple of this many pair numbers: more than an appliance makes between two backups. */
const EPOCH = 2 ** 32;
/** Kinds of pairs as `judge` names them. */
const KINDS_MADE = ['rsa-2048', 'rsa-3072', 'rsa-4096'];
/** A spent enrolment is remembered this much longer (ms) than it lives, against a clock that is put back. */
const SPENT_GRACE = 7 * 86_400_000;

/**
 * What must not roll back with the database: the token process's own memory, in one append-only file outside it. Each verb changes the memory at
 * once and resolves when that is on disk; nothing may leave the process before. Entries that could not be written stay owed: they are tried
 * again before anything else is let out, so a full disk heals by itself and never lets an old state pass.
 */
export class Journal {
  private readonly floors = new Map<string, number>();
  private readonly blocked = new Set<string>();
  private readonly held = new Set<string>();
  private readonly given = new Map<string, number>();
  private readonly spent = new Map<string, number>();
  private readonly taken: Succession[] = [];
  private readonly retired = new Map<string, RetiredAuthority>();
  private head: AuditHead | undefined;
  private readonly witnessed = new Map<string, AuditHead>();
  private isBootstrapOver = false;
  private reserved = 0;
  private next = 1;
  private file!: FileHandle; // set by open(), the only way to get a Journal
  private owed: Entry[] = [];
  /** Entries ever owed, and how many of them are on disk. */
  private put = 0;
  private safe = 0;
  private writing: Promise<void> | undefined;
  /** What is surely on disk: its length and the checksum of its last line. */
  private kept = { length: 0, sum: '' };
  /** Length at which it was last tried whether the file can be made shorter. */
  private tried = 0;
  /** It took another file's place, and the disk may not know of that yet. */
  private isMoved = false;

  private constructor(
    private readonly path: string,
    private readonly clock: Clock,
  ) {}

  /** Writes the empty journal of a new token. Refuses to replace one. */
  static create(path: string): void {
    const fd = openSync(path, 'wx', 0o600);
    try {
      writeSync(fd, line('', HEADER).text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    syncFolder(path);
  }

  /** Rejects with `journal-missing` or `journal-damaged`: the process must not start then. */
  static async open(path: string, clock: Clock): Promise<Journal> {
    const journal = new Journal(path, clock);
    journal.load();
    journal.compact();
    journal.file = await open(path, 'r+');
    return journal;
  }

  async close(): Promise<void> {
    await this.writing?.catch(() => undefined);
    await this.file.close();
  }

  /**
   * Lets an answer leave, or refuses it with the code of the claim that does not hold: `record-stale`, `pair-spent`, `enrolment-spent`, or the
   * claim's own. Pair numbers only rise within a kind of key, so no pair has two owners, whatever database is put back.
   */
  async admit(claims: readonly JournalClaim[]): Promise<void> {
    for (const claim of claims) this.require(claim);
    for (const claim of claims) this.remember(claim);
    await this.settled();
    // A block or a newer version may have come, and been confirmed, while this waited for the disk: it counts.
    for (const claim of claims) if (claim.kind === 'version' || claim.kind === 'open' || claim.kind === 'free') this.require(claim);
  }

  /** The last head of the audit log that was signed. */
  get auditHead(): AuditHead | null {
    return this.head ?? null;
  }

  /** The last head of another's log that was cosigned. */
  witnessedHead(origin: string): AuditHead | null {
    return this.witnessed.get(origin) ?? null;
  }

  async block(id: string): Promise<void> {
    if (!this.blocked.has(id)) this.owe({ t: 'block', id });
    await this.settled();
  }

  async unblock(id: string): Promise<void> {
    if (this.blocked.has(id)) this.owe({ t: 'unblock', id });
    await this.settled();
  }

  /** Every signing key that took over, in the order in which they did. */
  get successions(): readonly Succession[] {
    return this.taken;
  }

  /** From now on this key is in service. Its number is the next one of its name. */
  async succeed(succession: Succession): Promise<void> {
    this.owe(lineOf({ ...succession, time: this.clock.now().getTime() }));
    await this.settled();
  }

  /**
   * The same for the log's key, if this is still the last head and that key still signs. Judged and said in one step: with the disk waited for in between, the
   * former key could sign a head beyond the one at which both signed. Rejects with `head-stale`.
   */
  async succeedHead(head: AuditHead, by: number, succession: Succession): Promise<void> {
    this.require({ kind: 'head', from: head, to: head, by });
    await this.succeed(succession);
  }

  get retiredAuthorities(): readonly RetiredAuthority[] {
    return [...this.retired.values()];
  }

  /** From now on nothing that this authority signed is trusted here, and it signs nothing. */
  async retire({ name, n }: RetiredAuthority): Promise<void> {
    if (!this.retired.has(`${name} ${n}`)) this.owe({ t: 'retired', name, n });
    await this.settled();
  }

  /** Of this employee no key is destroyed from now on. */
  async hold(id: string): Promise<void> {
    if (!this.held.has(id)) this.owe({ t: 'hold', id });
    await this.settled();
  }

  async unhold(id: string): Promise<void> {
    if (this.held.has(id)) this.owe({ t: 'unhold', id });
    await this.settled();
  }

  get bootstrapIsOver(): boolean {
    return this.isBootstrapOver;
  }

  async endBootstrap(): Promise<void> {
    if (!this.isBootstrapOver) this.owe({ t: 'bootstrap-over' });
    await this.settled();
  }

  /** The number of the next pair; never the same again, not after a crash either. */
  async nextPair(): Promise<number> {
    const n = this.next++;
    if (n > this.reserved) this.owe({ t: 'reserved', n: n + RESERVE - 1 });
    await this.settled();
    return n;
  }

  private require(claim: JournalClaim): void {
    switch (claim.kind) {
      case 'version': {
        const floor = this.floors.get(claim.id) ?? 1;
        if (claim.version >= floor) return;
        throw new Fault('forbidden', 'record-stale', `version ${claim.version} of this record has been replaced by version ${floor}`);
      }
      case 'open':
        if (!this.blocked.has(claim.id)) return;
        throw new Fault('forbidden', claim.code, 'the token process has been told to release nothing here');
      case 'free':
        if (!this.held.has(claim.id)) return;
        throw new Fault('conflict', 'key-held', 'the token process has been told that keys of this person are on legal hold');
      case 'give':
        if (claim.n > (this.given.get(claim.of) ?? 0)) return;
        throw new Fault('conflict', 'pair-spent', 'this pair, or a later one, has been given out already: destroy it');
      case 'spend':
        if (!this.spent.has(claim.id)) return;
        throw new Fault('conflict', 'enrolment-spent', 'this enrolment has made its device already');
      case 'head':
        if (claim.by !== (this.taken.findLast(({ name }) => name === 'audit')?.n ?? 1))
          throw new Fault('conflict', 'head-stale', 'another key signs the heads of the audit log by now: ask again');
        if (sameHead(claim.from, this.head ?? { ...claim.from, ...NO_HEAD })) return;
        throw new Fault('conflict', 'head-stale', 'another head of the audit log was signed last: go on from that one');
      case 'witnessed':
        if (sameHead(claim.from, this.witnessed.get(claim.from.origin) ?? { ...claim.from, ...NO_HEAD })) return;
        throw new Fault('conflict', 'head-stale', 'another head of that log was cosigned last: go on from that one');
    }
  }

  private remember(claim: JournalClaim): void {
    // Version 1 is where every record begins, so it needs no line: a key that never changes costs nothing here.
    if (claim.kind === 'version' && claim.version > (this.floors.get(claim.id) ?? 1))
      this.owe({ t: 'floor', id: claim.id, v: claim.version });
    if (claim.kind === 'give') this.owe({ t: 'given', kind: claim.of, n: claim.n });
    if (claim.kind === 'head' && !(this.head && sameHead(this.head, claim.to))) this.owe({ t: 'head', ...claim.to });
    if (claim.kind === 'witnessed' && !sameHead(claim.from, claim.to)) this.owe({ t: 'witnessed', ...claim.to });
    if (claim.kind === 'spend') this.owe({ t: 'spent', id: claim.id, until: claim.expires + SPENT_GRACE });
  }

  private owe(what: Entry): void {
    this.apply(what);
    this.owed.push(what);
    this.put++;
  }

  /** Resolves when all that this memory holds now is on disk. One fsync serves everyone who waits for it. */
  async settled(): Promise<void> {
    const all = this.put;
    while (this.safe < all) {
      this.writing ??= this.write().finally(() => {
        this.writing = undefined;
      });
      await this.writing;
    }
  }

  private async write(): Promise<void> {
    await Promise.resolve(); // let those who ask in this same turn join
    const batch = [...this.owed];
    let sum = this.kept.sum;
    const text = batch.map((what) => {
      const next = line(sum, what);
      sum = next.sum;
      return next.text;
    });
    const bytes = Buffer.from(text.join(''));
    try {
      let done = 0;
      while (done < bytes.length) done += (await this.file.write(bytes, done, bytes.length - done, this.kept.length + done)).bytesWritten;
      await this.file.datasync();
      if (this.isMoved) syncFolder(this.path);
      this.isMoved = false;
    } catch {
      // What was half written goes; if even that fails, the next try writes over it from the same place.
      await this.file.truncate(this.kept.length).catch(() => undefined);
      throw new Fault('unavailable', 'token-unavailable', 'the token process cannot write its journal; is the disk full?', 5);
    }
    this.kept = { length: this.kept.length + bytes.length, sum };
    this.owed.splice(0, batch.length);
    this.safe += batch.length;
    if (this.kept.length >= Math.max(COMPACT_ABOVE, 2 * this.tried)) await this.shorten();
  }

  /**
   * A busy log signs a head each second, and only the last one counts. Opened before it takes the place of the long one: who went on in a file that has lost its name
   * would confirm what no restart finds. What fails here leaves the long file, which says the same.
   */
  private async shorten(): Promise<void> {
    this.tried = this.kept.length;
    try {
      const shorter = this.abridged();
      if (!shorter) return;
      const [old, fresh] = [this.file, await open(shorter.path, 'r+')];
      try {
        renameSync(shorter.path, this.path);
      } catch (error) {
        await fresh.close();
        throw error;
      }
      [this.file, this.kept, this.tried, this.isMoved] = [fresh, shorter.kept, shorter.kept.length, true];
      await old.close();
    } catch {
      process.stderr.write("the token's journal cannot be made shorter; it goes on as it is\n");
    }
  }

  private apply(what: Entry): void {
    switch (what.t) {
      case 'floor':
        this.floors.set(what.id, what.v);
        break;
      case 'block':
        this.blocked.add(what.id);
        break;
      case 'unblock':
        this.blocked.delete(what.id);
        break;
      case 'hold':
        this.held.add(what.id);
        break;
      case 'unhold':
        this.held.delete(what.id);
        break;
      case 'given':
        this.given.set(what.kind, what.n);
        break;
      case 'reserved':
        this.reserved = what.n;
        break;
      case 'spent':
        this.spent.set(what.id, what.until);
        break;
      case 'bootstrap-over':
        this.isBootstrapOver = true;
        break;
      case 'key':
        // A file that was made shorter between the memory and the disk says it twice.
        if (!this.taken.some(({ name, n }) => name === what.name && n === what.n)) this.taken.push(successionOf(what));
        break;
      case 'retired':
        this.retired.set(`${what.name} ${what.n}`, { name: what.name, n: what.n });
        break;
      case 'head':
        this.head = { origin: what.origin, size: what.size, root: what.root };
        break;
      case 'witnessed':
        this.witnessed.set(what.origin, { origin: what.origin, size: what.size, root: what.root });
        break;
    }
  }

  private load(): void {
    if (!existsSync(this.path))
      throw new Fault(
        'misconfigured',
        'journal-missing',
        `the token's journal ${this.path} is missing. It says which records are outdated, so nothing is served without it: put it back from where it is kept`,
      );
    const bytes = readFileSync(this.path);
    let at = 0;
    let first = true;
    while (at < bytes.length) {
      const end = bytes.indexOf(0x0a, at);
      const good = read(this.kept.sum, bytes.toString('utf8', at, end < 0 ? bytes.length : end));
      if (!good || (good.what.t === HEADER.t) !== first) break;
      this.apply(good.what);
      first = false;
      this.kept.sum = good.sum;
      at = end < 0 ? bytes.length : end + 1;
    }
    this.kept.length = at;
    const rest = bytes.subarray(at);
    // A crash leaves the beginning of a line, or zeros that were never filled: neither was ever answered for. An LF says that a line was whole once.
    const torn = !first && !rest.includes(0x0a);
    if (first || (rest.length > 0 && !torn))
      throw new Fault(
        'misconfigured',
        'journal-damaged',
        `the token's journal ${this.path} is damaged at byte ${at}. Put back a whole copy no older than the damage; what it forgets would let outdated records pass`,
      );
    this.next = this.reserved + 1;
    this.mend(bytes, at);
  }

  /** Cuts a torn tail, or ends a whole last line whose LF was lost. */
  private mend(bytes: Buffer, at: number): void {
    const unended = at > 0 && bytes[at - 1] !== 0x0a;
    if (at === bytes.length && !unended) return;
    const fd = openSync(this.path, 'r+');
    try {
      ftruncateSync(fd, at);
      if (unended) this.kept.length = at + writeSync(fd, '\n', at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Rewrites a long file as the state it describes. A crash on the way leaves the old file as it was. */
  private compact(): void {
    const shorter = this.abridged();
    if (!shorter) return;
    renameSync(shorter.path, this.path);
    syncFolder(this.path);
    this.kept = shorter.kept;
  }

  /** A long file as the state it describes, whole and on the disk beside it; undefined where that is hardly shorter. */
  private abridged(): { path: string; kept: { length: number; sum: string } } | undefined {
    const now = this.clock.now().getTime();
    for (const [id, until] of this.spent) if (until < now) this.spent.delete(id);
    const size = statSync(this.path).size;
    if (size < COMPACT_ABOVE) return undefined;
    const text = [...lines(this.entries())];
    const bytes = Buffer.from(text.join(''));
    if (bytes.length > size / 2) return undefined;
    const fresh = `${this.path}.new`;
    if (existsSync(fresh)) unlinkSync(fresh);
    const fd = openSync(fresh, 'wx', 0o600);
    try {
      let done = 0;
      while (done < bytes.length) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    return { path: fresh, kept: { length: bytes.length, sum: text.at(-1)?.slice(0, 32) ?? '' } };
  }

  /** The file as it would be written anew: the state that it describes. */
  copy(): Buffer {
    return Buffer.from([...lines(this.entries())].join(''));
  }

  /**
   * Writes the journal of a restored token from the copy that a backup holds, and goes past every number that was given out since: pairs made after
   * the backup may lie about in some other copy of the database, and must stay nobody's. Refuses to replace a journal.
   * @param generations of authorities that the token holds: those of which the copy does not know yet take over here, as they did or were about to
   * @param origin the name under which the log goes on: what was signed after the backup under the former one is not forgotten by others
   * @param guard off only where a test shows what would happen without
   * @returns the last head that was signed, as the copy has it, and which generations it did not know
   */
  static async restore(
    path: string,
    copy: Uint8Array,
    clock: Clock,
    {
      origin,
      generations = [],
      guard = true,
    }: { origin?: string | undefined; generations?: readonly HeldGeneration[]; guard?: boolean } = {},
  ): Promise<{ former: AuditHead | undefined; taken: HeldGeneration[] }> {
    const staged = `${path}.restoring`;
    rmSync(staged, { force: true });
    writeFileSync(staged, copy, { mode: 0o600, flag: 'wx' });
    const journal = new Journal(staged, clock);
    journal.load();
    const past = (Math.floor(journal.reserved / EPOCH) + 1) * EPOCH;
    if (guard) {
      journal.reserved = past;
      for (const kind of new Set([...KINDS_MADE, ...journal.given.keys()])) journal.given.set(kind, past);
    }
    const taken = generations.filter(({ name, n }) => n > (journal.taken.findLast((each) => each.name === name)?.n ?? 1));
    journal.taken.push(...taken);
    const former = journal.head;
    if (former && origin !== undefined) journal.head = { ...former, origin };
    const fd = openSync(path, 'wx', 0o600);
    try {
      const bytes = journal.copy();
      let done = 0;
      while (done < bytes.length) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    unlinkSync(staged);
    syncFolder(path);
    return { former, taken };
  }

  /** The journal of one token as that of another which has the same keys, replacing what is there. Neither may be in use. */
  static carry(from: string, to: string): void {
    const bytes = readFileSync(from);
    const fresh = `${to}.new`;
    rmSync(fresh, { force: true });
    const fd = openSync(fresh, 'wx', 0o600);
    try {
      let done = 0;
      while (done < bytes.length) done += writeSync(fd, bytes, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, to);
    syncFolder(to);
  }

  private *entries(): Generator<Entry> {
    yield HEADER;
    if (this.reserved > 0) yield { t: 'reserved', n: this.reserved };
    for (const [kind, n] of this.given) yield { t: 'given', kind, n };
    for (const [id, v] of this.floors) yield { t: 'floor', id, v };
    for (const id of this.blocked) yield { t: 'block', id };
    for (const id of this.held) yield { t: 'hold', id };
    for (const [id, until] of this.spent) yield { t: 'spent', id, until };
    if (this.isBootstrapOver) yield { t: 'bootstrap-over' };
    for (const succession of this.taken) yield lineOf(succession);
    for (const authority of this.retired.values()) yield { t: 'retired', ...authority };
    if (this.head) yield { t: 'head', ...this.head };
    for (const head of this.witnessed.values()) yield { t: 'witnessed', ...head };
  }
}

const lineOf = ({ certificate, ...key }: Succession): Entry => ({
  t: 'key',
  ...key,
  ...(certificate ? { certificate: certificate.toString('base64') } : {}),
});

const successionOf = ({ t: _, certificate, note, time, ...key }: Extract<Entry, { t: 'key' }>): Succession => ({
  ...key,
  ...(time === undefined ? {} : { time }),
  ...(note === undefined ? {} : { note }),
  ...(certificate === undefined ? {} : { certificate: Buffer.from(certificate, 'base64') }),
});

/** A whole file of these entries. */
function* lines(entries: Iterable<Entry>): Generator<string> {
  let sum = '';
  for (const what of entries) {
    const next = line(sum, what);
    sum = next.sum;
    yield next.text;
  }
}
/** Before the first head there is nothing, under whatever name. */
const NO_HEAD = { size: 0, root: '' };
const sameHead = (a: AuditHead, b: AuditHead): boolean => a.origin === b.origin && a.size === b.size && a.root === b.root;

/** 32 hexadecimal digits of SHA-256 over the line before's digits and this line's JSON: a line taken out or changed breaks all that follow. */
function line(before: string, what: Entry): { text: string; sum: string } {
  const json = JSON.stringify(what);
  const sum = checksum(before, json);
  return { text: `${sum} ${json}\n`, sum };
}

function read(before: string, text: string): { what: Entry; sum: string } | undefined {
  const sum = text.slice(0, 32);
  const json = text.slice(33);
  if (text[32] !== ' ' || checksum(before, json) !== sum) return undefined;
  const known = entry.safeParse(JSON.parse(json));
  if (!known.success)
    throw new Fault('misconfigured', 'journal-newer', "the token's journal was written by a newer version of EKMS: start that one");
  return { what: known.data, sum };
}

const checksum = (before: string, json: string): string => createHash('sha256').update(before).update(json).digest('hex').slice(0, 32);

function syncFolder(path: string): void {
  const fd = openSync(dirname(path), 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
