import type { Reader, Unit } from '../foundation/index.js';
import type { MailState, PreparedMail } from './mailer.js';

/** A mail that one node has taken to deliver. It holds it until `claim`; nobody else touches it before. */
export interface ClaimedMail extends PreparedMail {
  attempts: number;
  claim: number;
}

interface DueRow extends PreparedMail {
  attempts: number;
  claimed_until: number | null;
}

export interface Due {
  claimed: ClaimedMail[];
  /** Whose time is over: never sent. */
  expired: DueRow[];
  /** Whose claim ran out without a word: whoever held it died between handing over and writing down. */
  orphaned: DueRow[];
}

/**
 * The table `mails`. `next_try` is when somebody has to look at a queued mail again: the next attempt, or the end of the claim that it is
 * under. The body of a settled mail is wiped.
 */
export async function insertMail(unit: Unit, mail: PreparedMail, now: number, notBefore: number): Promise<void> {
  await unit.run(
    `INSERT INTO mails (id, recipient, kind, sealed, state, attempts, next_try, expires, created, error, claimed_until) VALUES (?, ?, ?, ?, 'queued', 0, ?, ?, ?, NULL, NULL)`,
    [mail.id, mail.recipient, mail.kind, mail.sealed, Math.max(now, notBefore), mail.expires, now],
  );
}

export async function mailState(reader: Reader, id: string): Promise<MailState | undefined> {
  return (await reader.one<{ state: MailState }>('SELECT state FROM mails WHERE id = ?', [id]))?.state;
}

export async function isClaimed(reader: Reader, id: string): Promise<boolean> {
  return (await reader.one(`SELECT id FROM mails WHERE id = ? AND state = 'queued' AND claimed_until IS NOT NULL`, [id])) !== undefined;
}

export async function isAnyDue(reader: Reader, now: number): Promise<boolean> {
  return (await reader.one(`SELECT id FROM mails WHERE state = 'queued' AND next_try <= ? LIMIT 1`, [now])) !== undefined;
}

/** Takes at most `limit` of the mails that are due; those in `own` are under way here and left alone. */
export async function claimDue(unit: Unit, ask: { now: number; until: number; limit: number; own: ReadonlySet<string> }): Promise<Due> {
  const rows = await unit.all<DueRow>(
    `SELECT id, recipient, kind, sealed, expires, attempts, claimed_until FROM mails WHERE state = 'queued' AND next_try <= ? ORDER BY next_try, id LIMIT ?`,
    [ask.now, ask.limit + ask.own.size],
  );
  const due: Due = { claimed: [], expired: [], orphaned: [] };
  for (const row of rows) {
    if (ask.own.has(row.id)) continue;
    if (row.claimed_until !== null) due.orphaned.push(row);
    else if (row.expires <= ask.now) due.expired.push(row);
    else if (due.claimed.length < ask.limit && (await claim(unit, row, ask.until)))
      due.claimed.push({ ...row, attempts: row.attempts + 1, claim: ask.until });
  }
  return due;
}

/** Compare-and-set: of several nodes one gets it. */
async function claim(unit: Unit, row: DueRow, until: number): Promise<boolean> {
  const sql = `UPDATE mails SET claimed_until = ?, next_try = ?, attempts = attempts + 1 WHERE id = ? AND state = 'queued' AND claimed_until IS NULL`;
  return (await unit.run(sql, [until, until, row.id])) === 1;
}

/** False when the mail is no longer under this claim. */
export async function settleMail(
  unit: Unit,
  id: string,
  claimed: number | null,
  state: 'sent' | 'failed',
  error: string | null,
): Promise<boolean> {
  const held = claimed === null ? 'claimed_until IS NULL' : 'claimed_until = ?';
  const sql = `UPDATE mails SET state = ?, error = ?, sealed = ?, claimed_until = NULL WHERE id = ? AND state = 'queued' AND ${held}`;
  return (await unit.run(sql, [state, error, Buffer.alloc(0), id, ...(claimed === null ? [] : [claimed])])) === 1;
}

export async function retryMail(unit: Unit, mail: ClaimedMail, at: number, error: string): Promise<void> {
  const sql = `UPDATE mails SET claimed_until = NULL, next_try = ?, error = ? WHERE id = ? AND state = 'queued' AND claimed_until = ?`;
  await unit.run(sql, [at, error, mail.id, mail.claim]);
}
