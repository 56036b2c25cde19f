import { Fault } from '../foundation/index.js';

/** Names SQLite's result codes, PostgreSQL's SQLSTATEs and Node's socket errors by what a caller can do about them. */
const DUPLICATE = /^(SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY|ROWID)|23505)$/;
const FULL = /^(SQLITE_FULL|ENOSPC|EDQUOT|53100)$/;
const LOCKED = /^(SQLITE_(BUSY|LOCKED)|55P03|40001|40P01|57014)/;
const DAMAGED = /^(SQLITE_(CORRUPT|NOTADB)|XX001|XX002)/;
const READ_ONLY = /^(SQLITE_READONLY|EROFS|25006)/;
/** Classes 08, 53, 57 and 58 (PostgreSQL appendix A): connection, resources, operator intervention, system. */
const LOST = /^(SQLITE_(IOERR|CANTOPEN|NOMEM|PROTOCOL)|08|53|57|58|28|3D000|E[A-Z_]+$)/;
const LOST_MESSAGE = /connection terminated|connection error|not queryable|timeout|query runner already released|pool after calling end/i;

export const storageUnavailable = (why: string): Fault =>
  new Fault('unavailable', 'storage-unavailable', `the database cannot be used now: ${why}`, 2);

/** The driver's own error: TypeORM wraps it and adds the parameters, which must go no further. */
function cause(error: unknown): { code: string; message: string } {
  const outer = error as { driverError?: unknown };
  const inner = (outer?.driverError ?? error) as { code?: unknown; message?: unknown; errors?: { message?: string }[] };
  // Happy eyeballs gives an AggregateError without a message of its own.
  const message = String(inner?.message || inner?.errors?.[0]?.message || 'no reason given');
  return { code: typeof inner?.code === 'string' ? inner.code : '', message };
}

/** Turns what a driver threw into a Fault, or into an Error that names the statement and no value when the fault is ours. */
export function sqlFault(error: unknown, sql: string): Error {
  if (error instanceof Fault) return error;
  const { code, message } = cause(error);
  if (DUPLICATE.test(code)) return new Fault('conflict', 'duplicate', 'there is such a row already');
  if (FULL.test(code)) return storageUnavailable('the disk is full; free some space, nothing needs a restart');
  if (LOCKED.test(code)) return storageUnavailable('something else holds it for too long');
  if (READ_ONLY.test(code)) return storageUnavailable('it is read-only');
  if (DAMAGED.test(code)) return storageUnavailable(`it is damaged (${message}); restore it from a backup`);
  if (LOST.test(code) || LOST_MESSAGE.test(message)) return storageUnavailable(message);
  return new Error(`${message}${code ? ` [${code}]` : ''} in: ${sql}`);
}
