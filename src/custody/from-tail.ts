import type { AppCredentials, Employees, SharedMailboxes } from '../access/index.js';
import type { KeyReplacement } from '../certificates/index.js';
import type { DeviceRegistry } from '../devices/index.js';
import { isFault, parseAddress, type Storage } from '../foundation/index.js';
import { type KeyState, NEXT_KEY_STATE } from '../tokens/index.js';
import type { KeyTransfers } from './key-transfers.js';
import type { TailEntry } from './known-log.js';
import type { RecoveryCases } from './recovery-cases.js';

const BY = { kind: 'system' } as const;

export interface FromTail {
  /** What was taken away after the backup, and is again. */
  reapplied: number;
  /** What could not be, because what it was taken from is not in the backup. */
  moot: number;
}

/**
 * Takes away again what was taken away after the backup: devices, people's access, addresses, app credentials, states of keys. What was given
 * after the backup is not in it, and comes back only by the second place or by enrolling anew. May be done again.
 */
export async function takeFromTail(
  house: {
    storage: Storage;
    registry: DeviceRegistry;
    employees: Employees;
    mailboxes: SharedMailboxes;
    recoveries: RecoveryCases;
    transfers: KeyTransfers;
    replacement: KeyReplacement;
    apps: AppCredentials;
  },
  tail: readonly TailEntry[],
): Promise<FromTail> {
  const done = { reapplied: 0, moot: 0 };
  for (const entry of tail) {
    if (entry.outcome !== 'done') continue;
    try {
      if (await reapply(house, entry)) done.reapplied++;
    } catch (error) {
      if (!isFault(error) || error.kind === 'unavailable') throw error;
      done.moot++;
    }
  }
  return done;
}

/** False where the entry takes nothing away. */
async function reapply(
  { storage, registry, employees, mailboxes, recoveries, transfers, replacement, apps }: Parameters<typeof takeFromTail>[0],
  { action, device = '', employee = '', key = '', subject = '', facts = {} }: TailEntry,
): Promise<boolean> {
  switch (action) {
    case 'device.revoke':
    case 'device.freeze':
      await registry.end(device, action === 'device.freeze' ? 'frozen' : 'revoked', BY);
      return true;
    case 'employee.stop':
      await employees.stop(employee, BY);
      return true;
    case 'employee.resume':
      await employees.resume(employee, BY);
      return true;
    case 'app.revoke':
      await apps.revoke(subject, BY, facts['devices'] === true);
      return true;
    case 'binding.end': {
      const row = await storage.one<{ address: string }>('SELECT address FROM bindings WHERE id = ? AND to_time IS NULL', [subject]);
      if (row) await replacement.releaseAddress(parseAddress(row.address).key, BY);
      return row !== undefined;
    }
    case 'mailbox.remove':
      await mailboxes.remove(employee, String(facts['member']), BY);
      return true;
    case 'recovery.end':
      await recoveries.end(subject, BY);
      return true;
    case 'transfer.end':
      await transfers.end(subject, BY);
      return true;
    case 'key.change': {
      const state = facts['state'];
      const row = await storage.one<{ state: string }>('SELECT state FROM keys WHERE id = ?', [key]);
      if (!row || row.state === state || !isState(state)) return false;
      await replacement.setState(key, state, BY);
      return true;
    }
    default:
      return false;
  }
}

const isState = (state: unknown): state is KeyState => typeof state === 'string' && state in NEXT_KEY_STATE;
