import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CheckpointParts, Checkpoints } from '../../src/audit/checkpoints.js';
import { DurableAuditLog, LogBook, LogStanding, LogTree } from '../../src/audit/index.js';
import { type AuditEvent, type Storage, SystemClock } from '../../src/foundation/index.js';
import type { RecoveryAgents } from '../../src/tokens/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';

/** Name of the log in tests of it. */
export const ORIGIN = 'ekms.corp.example/v1/audit';
/** An entry of no consequence. */
export const STARTED: AuditEvent = { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } };
const urls = { crl: 'http://ekms.corp.example/crl', issuer: 'http://ekms.corp.example/cer' };
export const AUTHORITIES = {
  organisation: 'Corp',
  domains: ['corp.example'],
  publicName: 'ekms.corp.example',
  urls: { root: urls, people: urls, devices: urls, infrastructure: urls },
};
const clock = new SystemClock();

/** A folder and a token with its journal in it; `undo` is what a test does at its end, last first. */
export async function logToken(undo: (() => unknown)[], agents?: RecoveryAgents): Promise<{ folder: string; token: MemoryToken }> {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-log-'));
  undo.push(() => rmSync(folder, { recursive: true }));
  const token = await MemoryToken.open(join(folder, 'journal'), AUTHORITIES, clock, agents);
  undo.push(() => token.close());
  return { folder, token };
}

/** A node's log over one database and one token: entries, their tree, what reads it, and checkpoints of it. */
export function logOn(
  storage: Storage,
  token: CheckpointParts['token'],
  { origin = ORIGIN, first }: { origin?: string; first?: () => Promise<void> } = {},
) {
  const standing = new LogStanding();
  const log = new DurableAuditLog(clock, standing);
  const tree = new LogTree(storage);
  const book = new LogBook(storage, log, tree);
  const checkpoints = new Checkpoints({ tree, tiles: book.tiles, token, standing, clock, origin, ...(first ? { first } : {}) });
  const append = (count: number) => Promise.all(Array.from({ length: count }, () => storage.write((unit) => log.append(unit, STARTED))));
  return { standing, log, tree, book, checkpoints, append };
}
