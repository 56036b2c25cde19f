import { type AuditActor, type AuditLog, Fault, type Storage } from '../foundation/index.js';
import type { KeyVault } from '../keys/index.js';
import type { KeyMode } from '../tokens/index.js';
import type { KeyIssuance } from './key-issuance.js';
import type { RevocationLists } from './revocation-lists.js';

/** A person's current key is followed by another: the old one stays for reading, its certificates are revoked, a new pair takes over. */
export class KeyReplacement {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly vault: KeyVault,
    private readonly issuance: KeyIssuance,
    private readonly revocations: RevocationLists,
  ) {}

  /** Rejects with `key-unknown` for a person without an active key. With an empty pool the new key is pending. */
  async replace(employee: string, because: 'superseded' | 'compromised', by: AuditActor): Promise<void> {
    const { id } = await this.#active(employee);
    const [state, reason] =
      because === 'compromised' ? (['compromised', 'keyCompromise'] as const) : (['deactivated', 'superseded'] as const);
    await this.vault.change(id, { state }, by, async (unit) => {
      const serials = await unit.all<{ serial: string }>('SELECT serial FROM certificates WHERE subject_key = ? AND revoked_at IS NULL', [
        id,
      ]);
      for (const { serial } of serials) await this.revocations.revoke(unit, serial, reason, by);
      await this.issuance.wait(unit, employee);
    });
    await this.revocations.publish('people');
    await this.issuance.serveWaiting();
  }

  /**
   * Sets how this person's keys reach them. To `remote` makes a new key: what was delivered stays delivered. To `deliver` opens the current one.
   */
  async setMode(employee: string, mode: KeyMode, by: AuditActor): Promise<void> {
    await this.storage.write(async (unit) => {
      const changed = await unit.run('UPDATE employees SET mode = ? WHERE id = ?', [mode, employee]);
      if (changed === 0) throw new Fault('not-found', 'employee-unknown', 'there is no such employee');
      await this.audit.append(unit, { action: 'policy.change', outcome: 'done', actor: by, employee, facts: { mode } });
    });
    const key = await this.#active(employee);
    if (key.mode === mode) return;
    if (mode === 'deliver') await this.vault.change(key.id, { mode }, by);
    else await this.replace(employee, 'superseded', by);
  }

  async #active(employee: string): Promise<{ id: string; mode: KeyMode }> {
    const key = await this.storage.one<{ id: string; mode: KeyMode }>("SELECT id, mode FROM keys WHERE employee = ? AND state = 'active'", [
      employee,
    ]);
    if (!key) throw new Fault('not-found', 'key-unknown', 'this person has no active key');
    return key;
  }
}
