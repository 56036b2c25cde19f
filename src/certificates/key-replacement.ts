import type { Employees } from '../access/index.js';
import { type AuditActor, type AuditLog, Fault, type Storage, type Unit } from '../foundation/index.js';
import type { KeyVault } from '../keys/index.js';
import type { KeyMode, KeyState } from '../tokens/index.js';
import type { RevocationReason } from './certificate-store.js';
import type { KeyIssuance } from './key-issuance.js';
import type { RevocationLists } from './revocation-lists.js';

/** The end of a key or an address as far as certificates go: what must no longer be encrypted to is revoked in the unit that ends it. */
export class KeyReplacement {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly vault: KeyVault,
    private readonly issuance: KeyIssuance,
    private readonly revocations: RevocationLists,
    private readonly employees: Employees,
  ) {}

  /**
   * A person's current key is followed by another: the old one stays for reading, a new pair takes over. Rejects with `key-unknown` for a
   * person without an active key. With an empty pool the new key is pending.
   */
  async replace(employee: string, because: 'superseded' | 'compromised', by: AuditActor): Promise<void> {
    const active = await this.#active(employee);
    if (!active) throw new Fault('not-found', 'key-unknown', 'this person has no active key');
    const [state, reason] =
      because === 'compromised' ? (['compromised', 'keyCompromise'] as const) : (['deactivated', 'superseded'] as const);
    const together = async (unit: Unit) => {
      await this.#revokeOf(unit, active.id, reason, by);
      await this.issuance.wait(unit, employee);
    };
    await this.vault.change(active.id, { state }, by, together, because);
    await this.revocations.publish('people');
    await this.issuance.serveWaiting();
  }

  /**
   * Any change of a key's state; one that ends its use for encrypting takes its certificates with it.
   * @param because a code for the entry
   * @param also what belongs to the same unit of work
   */
  async setState(
    id: string,
    state: KeyState,
    by: AuditActor,
    because?: string,
    also: (unit: Unit) => Promise<void> = async () => {},
  ): Promise<void> {
    const ends = state === 'deactivated' || state === 'compromised' || state === 'destroyed';
    const together = async (unit: Unit) => {
      await also(unit);
      if (ends) await this.#revokeOf(unit, id, state === 'compromised' ? 'keyCompromise' : 'cessationOfOperation', by);
    };
    await this.vault.change(id, { state }, by, together, because);
    if (ends) await this.revocations.publish('people');
  }

  /**
   * An address ends for its owner, with every certificate that names it; whoever proves the mailbox next is somebody new.
   * @param owner whose it must still be: `binding-changed` otherwise
   */
  async releaseAddress(address: string, by: AuditActor, owner?: string): Promise<void> {
    await this.employees.endBinding(address, by, async (unit, employee) => {
      if (owner !== undefined && owner !== employee)
        throw new Fault('conflict', 'binding-changed', 'this address has another owner by now');
      await this.#revokeFor(unit, address, employee, by);
    });
    await this.revocations.publish('people');
  }

  /** The address goes back to a former owner, who is the same person; certificates of the newcomer for it end. See `Employees.join`. */
  async join(address: string, former: string, by: AuditActor): Promise<void> {
    await this.employees.join(address, former, by, (unit, newcomer) => this.#revokeFor(unit, address, newcomer, by));
    await this.revocations.publish('people');
  }

  async #revokeFor(unit: Unit, address: string, employee: string, by: AuditActor): Promise<void> {
    const sql = 'SELECT serial FROM certificates WHERE address = ? AND employee = ? AND revoked_at IS NULL';
    for (const { serial } of await unit.all<{ serial: string }>(sql, [address, employee]))
      await this.revocations.revoke(unit, serial, 'affiliationChanged', by);
  }

  /**
   * Sets how this person's keys reach them. To `remote` makes a new key: what was delivered stays delivered. To `deliver` opens the current one.
   */
  async setMode(employee: string, mode: KeyMode, by: AuditActor): Promise<void> {
    await this.noteMode(employee, mode, by);
    await this.#follow(employee, mode, by);
  }

  /** For keys that come; the one that is there stays as it is until `followModes`. Rejects with `key-mode`, `employee-unknown`. */
  async noteMode(employee: string, mode: KeyMode, by: AuditActor): Promise<boolean> {
    return this.storage.write(async (unit) => {
      if (await unit.one('SELECT id FROM employees WHERE id = ? AND mode = ?', [employee, mode])) return false;
      if (await unit.one("SELECT id FROM employees WHERE id = ? AND mode = 'quorum'", [employee]))
        throw new Fault('conflict', 'key-mode', 'keys that only a quorum may use stay so');
      const changed = await unit.run('UPDATE employees SET mode = ? WHERE id = ?', [mode, employee]);
      if (changed === 0) throw new Fault('not-found', 'employee-unknown', 'there is no such employee');
      await this.audit.append(unit, { action: 'policy.change', outcome: 'done', actor: by, employee, facts: { mode } });
      return true;
    });
  }

  /** People whose current key is not as their mode says: what a restore knows of their mode from the log alone. */
  async followModes(by: AuditActor): Promise<void> {
    const people = await this.storage.all<{ id: string; mode: KeyMode }>(
      `SELECT e.id AS "id", e.mode AS "mode" FROM employees e JOIN keys k ON k.employee = e.id AND k.state = 'active'
       WHERE e.mode IN ('deliver', 'remote') AND k.mode IN ('deliver', 'remote') AND k.mode <> e.mode`,
    );
    for (const { id, mode } of people) await this.#follow(id, mode, by);
  }

  async #follow(employee: string, mode: KeyMode, by: AuditActor): Promise<void> {
    const active = await this.#active(employee);
    if (!active || active.mode === mode) return;
    if (mode === 'deliver') await this.vault.change(active.id, { mode }, by);
    else await this.replace(employee, 'superseded', by);
  }

  #active(employee: string): Promise<{ id: string; mode: KeyMode } | undefined> {
    return this.storage.one<{ id: string; mode: KeyMode }>("SELECT id, mode FROM keys WHERE employee = ? AND state = 'active'", [employee]);
  }

  async #revokeOf(unit: Unit, key: string, reason: RevocationReason, by: AuditActor): Promise<void> {
    // What other authorities signed for a key from outside is theirs to revoke, and would be nothing that a list of ours can name.
    const sql = "SELECT serial FROM certificates WHERE subject_key = ? AND profile <> 'imported' AND revoked_at IS NULL";
    for (const { serial } of await unit.all<{ serial: string }>(sql, [key])) await this.revocations.revoke(unit, serial, reason, by);
  }
}
