import type { AuditLog, Clock, Reader, Storage, Unit } from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';

const SETTING = 'bootstrap-over';
/** Officers that it takes for one to watch the other. */
export const OFFICERS = 2;

/** Remembers outside the database. The token process fills this port, in its journal. */
export interface BootstrapMemory {
  bootstrapIsOver(): Promise<boolean>;
  endBootstrap(): Promise<void>;
}

/**
 * Until two security officers are registered, single acts are allowed, marked in the log and shown red. The end is written down once and for
 * all: officers who leave later do not bring bootstrap back, there is break-glass for that; nor does whoever deletes them from the database.
 */
export class Bootstrap {
  #isRemembered = false;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly memory: BootstrapMemory,
    private readonly officers: (reader: Reader) => Promise<number>,
  ) {}

  /** What is remembered outside the database; and what the database knows and is not remembered yet (a restored token) is told. At start. */
  async recall(): Promise<void> {
    this.#isRemembered = await this.memory.bootstrapIsOver();
    if (!this.#isRemembered && (await this.isOver())) await this.remember();
  }

  async isOver(reader: Reader = this.storage): Promise<boolean> {
    if (this.#isRemembered) return true;
    // Any row counts, sound or not: whoever writes the database may end bootstrap, not bring it back.
    const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [SETTING]);
    return row !== undefined || (await this.officers(reader)) >= OFFICERS;
  }

  /** Ends it when this unit's officer is the second. That it is remembered outside the database is an intent: no unit waits for a token. */
  async settle(unit: Unit): Promise<void> {
    if (await unit.one('SELECT value FROM settings WHERE name = ?', [SETTING])) return;
    if ((await this.officers(unit)) < OFFICERS) return;
    await unit.run('INSERT INTO settings (name, value) VALUES (?, ?)', [SETTING, this.clock.now().toISOString()]);
    await this.audit.append(unit, { action: 'bootstrap.end', outcome: 'done', actor: { kind: 'system' }, facts: { officers: OFFICERS } });
    await fulfil(unit, SETTING);
    await intend(unit, SETTING, 'end-bootstrap', {}, this.clock);
  }

  /** Has it remembered outside the database; also run for the intent that `settle` leaves. */
  async remember(): Promise<void> {
    await this.memory.endBootstrap();
    this.#isRemembered = true;
    await this.storage.write((unit) => fulfil(unit, SETTING));
  }
}
