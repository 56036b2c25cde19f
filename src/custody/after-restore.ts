import type { Employees, SharedMailboxes } from '../access/index.js';
import type { DeviceRegistry } from '../devices/index.js';
import { type AuditLog, base64url, type Storage } from '../foundation/index.js';
import { KeyStore, type ReadyPool } from '../keys/index.js';
import type { Token } from '../tokens/index.js';
import type { KeyLives } from './key-lives.js';
import type { KeyTransfers } from './key-transfers.js';
import type { RecoveryCases } from './recovery-cases.js';

const PAGE = 200;
const BY = { kind: 'system' } as const;

export interface Restored {
  keys: number;
  people: number;
  pairsDestroyed: number;
  devicesEnded: number;
}

/**
 * What must hold before anything is served from a restored database (design §10): no pair of the pool is used, the token process knows every
 * later version, every stop and every ended device that the rows tell of, and, unless it is certain what happened after the backup, no device
 * goes on: a revocation made after it would else be undone. Its entry names the last head that is known from elsewhere, and how many entries
 * are missing up to it. Each step may be done again after a crash.
 */
export async function settleRestored(
  house: {
    storage: Storage;
    audit: AuditLog;
    token: Token;
    employees: Employees;
    mailboxes: SharedMailboxes;
    registry: DeviceRegistry;
    pool: ReadyPool;
    lives: KeyLives;
    recoveries: RecoveryCases;
    transfers: KeyTransfers;
  },
  of: { backup: string; entries: number; nothingLost: boolean; known?: { size: number; root: Uint8Array } | undefined; lost: number },
): Promise<Restored> {
  const { storage, audit, token } = house;
  const pairsDestroyed = await house.pool.destroyAll('restored');
  let keys = 0;
  const store = new KeyStore();
  for (let after = ''; ; ) {
    const page = await store.page(storage, after, PAGE);
    for (const { sealed } of page) if (sealed.record.version > 1) await token.raise(sealed);
    keys += page.length;
    const last = page.at(-1);
    if (!last) break;
    after = last.sealed.record.id;
  }
  for (const part of [house.employees, house.mailboxes, house.lives, house.recoveries, house.transfers]) await part.tellTokenAll();
  for (const { id } of await storage.all<{ id: string }>("SELECT id FROM devices WHERE state <> 'active'")) await token.block(id);
  const devicesEnded = of.nothingLost ? 0 : await house.registry.endAll(BY);
  const people = Number((await storage.one<{ n: number }>('SELECT COUNT(*) AS "n" FROM employees'))?.n ?? 0);
  await storage.write((unit) =>
    audit.append(unit, {
      action: 'appliance.restore',
      outcome: 'done',
      actor: BY,
      subject: of.backup,
      facts: {
        ...{ entries: of.entries, keys, people, pairsDestroyed, devicesEnded },
        ...(of.known ? { head: of.known.size, root: base64url(of.known.root), lost: of.lost } : {}),
      },
    }),
  );
  return { keys, people, pairsDestroyed, devicesEnded };
}
