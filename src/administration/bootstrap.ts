import type { AuditLog, Clock, Reader, Storage, Unit } from '../foundation/index.js';

const SETTING = 'bootstrap-over';
/** Officers that it takes for one to watch the other. */
export const OFFICERS = 2;

/**
 * Until two security officers are registered, single acts are allowed, marked in the log and shown red. The end is written down once and for
 * all: officers who leave later do not bring bootstrap back, there is break-glass for that.
 */
export class Bootstrap {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly officers: (reader: Reader) => Promise<number>,
  ) {}

  async isOver(reader: Reader = this.storage): Promise<boolean> {
    // Any row counts, sound or not: whoever writes the database may end bootstrap, not bring it back while the officers stand.
    const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [SETTING]);
    return row !== undefined || (await this.officers(reader)) >= OFFICERS;
  }

  /** Ends it when this unit's officer is the second. */
  async settle(unit: Unit): Promise<void> {
    if (await unit.one('SELECT value FROM settings WHERE name = ?', [SETTING])) return;
    if ((await this.officers(unit)) < OFFICERS) return;
    await unit.run('INSERT INTO settings (name, value) VALUES (?, ?)', [SETTING, this.clock.now().toISOString()]);
    await this.audit.append(unit, { action: 'bootstrap.end', outcome: 'done', actor: { kind: 'system' }, facts: { officers: OFFICERS } });
  }
}
