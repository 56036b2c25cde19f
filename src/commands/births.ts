import { crc32 } from 'node:zlib';
import { AuditReader, type EntryBody, prunedUntil } from '../audit/index.js';
import type { SqlValue, Storage } from '../foundation/index.js';
import { type Finding, Findings } from './finding.js';

const PAGE = 1_000;
/** Entries whose ids are held in memory at a time, some 100 bytes each. A longer log is read in as many rounds as it takes. */
const ROUND = 1_000_000;

/** Where what the log calls into being must be found again. `kept`: its rows are never deleted, so one that is missing was lost. */
const TABLES = {
  employee: { sql: 'SELECT id FROM employees WHERE id > ? ORDER BY id LIMIT ?', kept: true },
  binding: { sql: 'SELECT id FROM bindings WHERE id > ? ORDER BY id LIMIT ?', kept: true },
  device: { sql: 'SELECT id FROM devices WHERE id > ? ORDER BY id LIMIT ?', kept: true },
  key: { sql: 'SELECT id FROM keys WHERE id > ? ORDER BY id LIMIT ?', kept: true },
  // What came with an imported key is told with it; an authority’s own certificate stands here once it is revoked.
  certificate: {
    sql: "SELECT serial AS \"id\" FROM certificates WHERE profile NOT IN ('imported', 'authority') AND serial > ? ORDER BY serial LIMIT ?",
    kept: true,
  },
  'app credential': { sql: 'SELECT id FROM apps WHERE id > ? ORDER BY id LIMIT ?', kept: true },
  'settled mail': { sql: "SELECT id FROM mails WHERE state <> 'queued' AND id > ? ORDER BY id LIMIT ?", kept: false },
  // While it is under way, an intent says so; afterwards its device's entry names it.
  'spent enrolment': {
    sql: `SELECT n.id FROM enrolments n WHERE n.state = 'spent' AND NOT EXISTS (SELECT 1 FROM intents i WHERE i.kind = 'enrol' AND i.body LIKE '%' || n.id || '%')
      AND n.id > ? ORDER BY n.id LIMIT ?`,
    kept: false,
  },
  'ready pair': { sql: 'SELECT n AS "id" FROM pool WHERE n > ? ORDER BY n LIMIT ?', kept: false },
} as const;
type Kind = keyof typeof TABLES;
const KINDS = Object.keys(TABLES) as Kind[]; // exactly these, by the line above

interface Said {
  /** What came into being by this entry. */
  born: [Kind, string | undefined][];
  /** The pair that left the pool by it. */
  gone?: string | undefined;
}

function saidBy({ action, outcome, reason, subject, employee, device, facts }: EntryBody): Said {
  if (action === 'mail.send') return { born: [['settled mail', subject]] };
  if (outcome !== 'done') return { born: [] };
  const n = facts?.['n']?.toString();
  const serial = facts?.['serial']?.toString();
  switch (action) {
    case 'employee.create':
      return { born: [['employee', employee]] };
    case 'binding.begin':
      return { born: [['binding', subject]] };
    case 'device.enrol':
      return {
        born: [
          ['device', device],
          ['spent enrolment', subject],
          ['certificate', serial],
        ],
      };
    case 'key.birth':
      return { born: [['ready pair', n]] };
    case 'key.import':
      return { born: [['key', subject]] };
    case 'key.assign':
      return { born: [['key', subject]], gone: n };
    case 'pool.destroy':
      return { born: [], gone: n };
    case 'certificate.issue':
      return { born: [['certificate', subject]] };
    case 'certificate.revoke':
      return { born: reason === 'never-delivered' ? [['certificate', subject]] : [] };
    case 'app.issue':
      return { born: [['app credential', subject]] };
    default:
      return { born: [] };
  }
}

/**
 * Holds the tables against the log: what is there has exactly one entry that called it into being, what was called into being is still there,
 * and each pair has left the pool at most once. What comes and goes while this reads is judged only as far as both sides saw it.
 */
export async function checkBirths(storage: Storage): Promise<Finding[]> {
  const findings = new Findings('log and tables');
  const before = await new AuditReader(storage).size();
  const rounds = Math.max(1, Math.ceil(before / ROUND));
  for (let round = 0; round < rounds; round++) await new Round(storage, before, (id) => crc32(id) % rounds === round, findings).run();
  const pruned = await prunedUntil(storage);
  const beside = pruned === 0 ? 'nothing else is' : `what else there is may be of the ${pruned} entries that were pruned`;
  return findings.end(`${before} entries: whatever they called into being is there, once, and ${beside}`);
}

class Round {
  /** Rows that were there after the log had `before` entries; true once an entry for it was found. */
  readonly #rows = new Map<string, boolean>();
  readonly #born = new Map<string, number>();
  readonly #gone = new Map<string, number>();

  constructor(
    private readonly storage: Storage,
    private readonly before: number,
    private readonly isMine: (id: string) => boolean,
    private readonly findings: Findings,
  ) {}

  async run(): Promise<void> {
    for (const kind of KINDS) for await (const id of this.#ids(kind)) this.#rows.set(`${kind} ${id}`, false);
    const after = await new AuditReader(this.storage).size();
    for await (const { index, body } of this.#entries(after)) this.#take(index, saidBy(body));
    // What is older than all that is kept has no entry any more.
    const isPruned = (await prunedUntil(this.storage)) > 0;
    for (const [name, isBorn] of this.#rows) if (!isBorn && !isPruned) this.findings.say('bad', `no entry of the log has ${name}`);
    this.#judgePool();
  }

  async *#ids(kind: Kind): AsyncGenerator<string> {
    let after: SqlValue = kind === 'ready pair' ? 0 : '';
    for (;;) {
      const rows: { id: string | number }[] = await this.storage.all(TABLES[kind].sql, [after, PAGE]);
      const last = rows.at(-1);
      if (!last) return;
      after = last.id;
      for (const { id } of rows) if (this.isMine(String(id))) yield String(id);
    }
  }

  async *#entries(end: number): AsyncGenerator<{ index: number; body: EntryBody }> {
    const log = new AuditReader(this.storage);
    for (let from = 0; from < end; ) {
      const rows = await log.stored(from, PAGE);
      for (const { idx, body } of rows) if (idx < end) yield { index: idx, body: JSON.parse(body) as EntryBody }; // checkLog says whether it is what we wrote
      from = (rows.at(-1)?.idx ?? end) + 1;
    }
  }

  #take(index: number, { born, gone }: Said): void {
    for (const [kind, id] of born) {
      if (id === undefined || !this.isMine(id)) continue;
      const name = `${kind} ${id}`;
      const first = this.#born.get(name);
      if (first !== undefined) this.findings.say('bad', `entries ${first} and ${index} both have ${name}`);
      this.#born.set(name, index);
      if (this.#rows.has(name)) this.#rows.set(name, true);
      else if (TABLES[kind].kept && index < this.before)
        this.findings.say('bad', `${name} is lost: entry ${index} has it, the table has not`);
    }
    if (gone === undefined || !this.isMine(gone)) return;
    const first = this.#gone.get(gone);
    if (first !== undefined)
      this.findings.say('bad', `entries ${first} and ${index} both take pair ${gone} out of the pool: it may have two owners`);
    this.#gone.set(gone, index);
  }

  #judgePool(): void {
    for (const [name, index] of this.#born) {
      if (!name.startsWith('ready pair ')) continue;
      const n = name.slice('ready pair '.length);
      const gone = this.#gone.get(n);
      const isThere = this.#rows.has(name);
      if (isThere && gone !== undefined && gone < this.before)
        this.findings.say('bad', `pair ${n} is in the pool, though entry ${gone} took it out`);
      if (!isThere && gone === undefined && index < this.before)
        this.findings.say('bad', `pair ${n} is lost: it is neither in the pool nor anybody’s`);
    }
  }
}
