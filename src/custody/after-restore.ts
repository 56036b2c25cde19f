import type { Employees } from '../access/index.js';
import type { DeviceRegistry } from '../devices/index.js';
import type { AuditLog, Storage } from '../foundation/index.js';
import { KeyStore, type ReadyPool } from '../keys/index.js';
import type { Token } from '../tokens/index.js';

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
 * later version, every stop and every ended device that the rows tell of, and, unless it is certain that the log was not longer than the
 * backup's, no device goes on: a revocation made after the backup would else be undone by it. Each step may be done again after a crash.
 */
export async function settleRestored(
  house: { storage: Storage; audit: AuditLog; token: Token; employees: Employees; registry: DeviceRegistry; pool: ReadyPool },
  of: { backup: string; entries: number; nothingLost: boolean },
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
  await house.employees.tellTokenAll();
  for (const { id } of await storage.all<{ id: string }>("SELECT id FROM devices WHERE state <> 'active'")) await token.block(id);
  const devicesEnded = of.nothingLost ? 0 : await house.registry.endAll(BY);
  const people = Number((await storage.one<{ n: number }>('SELECT COUNT(*) AS "n" FROM employees'))?.n ?? 0);
  await storage.write((unit) =>
    audit.append(unit, {
      action: 'appliance.restore',
      outcome: 'done',
      actor: BY,
      subject: of.backup,
      facts: { entries: of.entries, keys, people, pairsDestroyed, devicesEnded },
    }),
  );
  return { keys, people, pairsDestroyed, devicesEnded };
}
