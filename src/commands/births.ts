import { crc32 } from 'node:zlib';
import { AuditReader, type EntryBody } from '../audit/index.js';
import type { SqlValue, Storage } from '../foundation/index.js';
import { type Finding, Findings } from './finding.js';

const PAGE = 1_000;
/** Entries whose ids are kept in memory at a time (about 100 MB). A longer log is read in as many rounds as it takes. */
const ROUND = 1_000_000;

/** What the log says has come into being, and by which table it must be found again. `for ever`: rows of this table are never deleted. */
const TABLES = {
  employee: { sql: 'SELECT id FROM employees WHERE id > ? ORDER BY id LIMIT ?', forEver: true },
  binding: { sql: 'SELECT id FROM bindings WHERE id > ? ORDER BY id LIMIT ?', forEver: true },
  device: { sql: 'SELECT id FROM devices WHERE id > ? ORDER BY id LIMIT ?', forEver: true },
  key: { sql: 'SELECT id FROM keys WHERE id > ? ORDER BY id LIMIT ?', forEver: true },
  certificate: { sql: 'SELECT serial AS "id" FROM certificates WHERE serial > ? ORDER BY serial LIMIT ?', forEver: true },
  app: { sql: 'SELECT id FROM apps WHERE id > ? ORDER BY id LIMIT ?', forEver: true },
  mail: { sql: "SELECT id FROM mails WHERE state <> 'queued' AND id > ? ORDER BY id LIMIT ?", forEver: false },
  // Its device is in the log by the enrolment's id; while the enrolment is under way an intent says so.
  enrolment: {
    sql: "SELECT n.id FROM enrolments n WHERE n.state = 'spent' AND n.id > ? AND NOT EXISTS (SELECT 1 FROM intents i WHERE i.kind = 'enrol' AND i.body LIKE '%' || n.id || '%') ORDER BY n.id LIMIT ?",
    forEver: false,
  },
  release: { sql: `SELECT key || '/' || device AS "id", key, device FROM deliveries WHERE (key, device) > (?, ?) ORDER BY key, device LIMIT ?`, forEver: false },
  pair: { sql: 'SELECT n AS "id" FROM pool WHERE n > ? ORDER BY n LIMIT ?', forEver: false },
} as const;
type Kind = keyof typeof TABLES;

/** Index of the entry by which each came into being. */
class Births {
  readonly #of = new Map<string, number>();

  /** Undefined, or the entry that said the same before. */
  add(id: string, index: number): number | undefined {
    const before = this.#of.get(id);
    if (before === undefined) this.#of.set(id, index);
    return before;
  }
}
