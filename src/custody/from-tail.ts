import type { AppCredentials, Employees, SharedMailboxes } from '../access/index.js';
import type { Administrators } from '../administration/index.js';
import {
  type KeyIssuance,
  type KeyReplacement,
  REASON,
  type RevocationLists,
  type RevocationReason,
  serialOf,
} from '../certificates/index.js';
import type { DeviceRegistry } from '../devices/index.js';
import { isFault, parseAddress, ROLES, type Storage } from '../foundation/index.js';
import {
  type Authorities,
  authorityId,
  type KeyMode,
  type KeyState,
  NEXT_KEY_STATE,
  SUCCEEDING_AUTHORITIES,
  type Token,
} from '../tokens/index.js';
import type { AuthorityRetirement } from './authority-retirement.js';
import type { KeyLives } from './key-lives.js';
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
 * Takes away again what was taken away after the backup: devices, people's access, addresses, app credentials, administrators and roles, states of keys,
 * certificates, authorities, how keys reach a person, and the freedom to destroy what was put on legal hold. A certificate that was issued after the backup and is not in what was restored ends:
 * nobody is to encrypt to a key that may be lost. What was given after the backup is not in it, and comes back only by the second place or by enrolling anew;
 * what the log has no more than a digest of (network policy, recovery agents, registered devices) is not known from it. May be done again.
 */
export async function takeFromTail(
  house: {
    storage: Storage;
    token: Token;
    registry: DeviceRegistry;
    employees: Employees;
    mailboxes: SharedMailboxes;
    recoveries: RecoveryCases;
    transfers: KeyTransfers;
    replacement: KeyReplacement;
    apps: AppCredentials;
    administrators: Administrators;
    lives: KeyLives;
    revocations: RevocationLists;
    issuance: KeyIssuance;
    authorities: Authorities;
    authorityRetirement: AuthorityRetirement;
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
  house: Parameters<typeof takeFromTail>[0],
  { action, device = '', employee = '', key = '', subject = '', facts = {}, reason }: TailEntry,
): Promise<boolean> {
  const { storage, token, registry, employees, mailboxes, recoveries, transfers, replacement, apps, administrators, lives } = house;
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
    // One that was filed after the backup is no row here, and whoever kept its signatures has them still.
    case 'recovery.end':
      await token.block(subject);
      await recoveries.end(subject, BY);
      return true;
    case 'transfer.end':
      await token.block(subject);
      await transfers.end(subject, BY);
      return true;
    case 'key.change': {
      const state = facts['state'];
      const row = await storage.one<{ state: string }>('SELECT state FROM keys WHERE id = ?', [key]);
      if (!row || row.state === state || !isState(state)) return false;
      await replacement.setState(key, state, BY);
      return true;
    }
    case 'policy.change': {
      const mode = facts['mode'];
      // The row alone: a pair of the pool that came back may have been given since. `followModes` comes when there is no such pair any more.
      return isMode(mode) && replacement.noteMode(employee, mode, BY);
    }
    case 'hold.place':
      return lives.holdAgain(subject, employee, BY);
    case 'hold.lift':
      await lives.lift(subject, BY);
      return true;
    case 'administrator.remove':
      await administrators.remove(subject, BY);
      return true;
    case 'administrator.role': {
      const role = facts['role'];
      await administrators.setRole(subject, ROLES.find((known) => known === role) ?? null, BY);
      return true;
    }
    case 'certificate.revoke':
      return endCertificate(house, subject, isReason(reason) ? reason : 'unspecified');
    case 'authority.retire':
      return retireAuthority(house, facts);
    case 'certificate.issue':
      // Of the appliance's own it makes others by itself.
      return facts['profile'] === undefined && endUnknown(house, subject);
    default:
      return false;
  }
}

type Lists = Pick<Parameters<typeof takeFromTail>[0], 'storage' | 'revocations' | 'issuance' | 'authorities' | 'authorityRetirement'>;

/** One that serves again, because who took over from it is lost, stays: `authority-in-use`. */
async function retireAuthority({ authorities, authorityRetirement }: Lists, facts: NonNullable<TailEntry['facts']>): Promise<boolean> {
  const name = SUCCEEDING_AUTHORITIES.find((each) => each === facts['name']);
  if (!name) return false;
  const id = authorityId({ name, n: Number(facts['n']) });
  if ((await authorities.find(id))?.state === 'retired') return false;
  await authorityRetirement.retire(id, facts['revoked'] === true, BY);
  return true;
}

async function endCertificate(house: Lists, serial: string, reason: RevocationReason): Promise<boolean> {
  const { storage, revocations, issuance } = house;
  const authority = house.authorities.all.find(({ certificate }) => serialOf(certificate) === serial);
  if (authority) return house.authorityRetirement.revokeItself(authority, BY);
  return storage.write(async (unit) => {
    const known = await unit.one<{ ended: number | null }>('SELECT revoked_at AS "ended" FROM certificates WHERE serial = ?', [serial]);
    if (known && known.ended !== null) return false;
    if (known) await revocations.revoke(unit, serial, reason, BY);
    // One of a generation that is lost is the root's to list.
    else await issuance.disown(unit, serial, reason === 'cACompromise' ? 'authority' : 'person');
    return true;
  });
}

async function endUnknown({ storage, issuance }: Lists, serial: string): Promise<boolean> {
  return storage.write(async (unit) => {
    if (await unit.one('SELECT serial FROM certificates WHERE serial = ?', [serial])) return false;
    await issuance.disown(unit, serial, 'person');
    return true;
  });
}

const isReason = (reason: unknown): reason is RevocationReason => typeof reason === 'string' && Object.hasOwn(REASON, reason);

const isMode = (mode: unknown): mode is KeyMode => mode === 'deliver' || mode === 'remote';

const isState = (state: unknown): state is KeyState => typeof state === 'string' && state in NEXT_KEY_STATE;
