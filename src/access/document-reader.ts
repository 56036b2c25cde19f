import { Fault, isFault, type Reader, type Unit } from '../foundation/index.js';
import type { RowSeal } from './row-seal.js';

const SETTING = 'access.document-reader';

/**
 * Who reads every document for the organisation, under a seal: whoever writes the database must not end that without anybody's act, nor have a person's keys
 * made under `quorum`. Where the seal's row is gone, or a restore is older than it, the keys themselves tell, whose mode is in their own sealed records.
 */
export class DocumentReader {
  constructor(
    private readonly storage: Reader,
    private readonly seal: RowSeal,
  ) {}

  /** Undefined while it is off. Rejects with `record-forged`. */
  async now(): Promise<{ employee: string; address: string } | undefined> {
    const row = await this.storage.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [SETTING]);
    if (!row) return this.storage.one<{ employee: string; address: string }>(BY_ITS_KEYS);
    const { employee, address, mac } = JSON.parse(row.value) as Record<'employee' | 'address' | 'mac', string>; // only `begin` writes it
    if (!this.seal.holds(SETTING, { employee, address }, Buffer.from(mac, 'base64')))
      throw new Fault('forbidden', 'record-forged', 'who reads documents for the organisation is not who was named by two persons');
    return { employee, address };
  }

  /** Whether this employee's keys are made under `quorum`: nobody's, where the seal is broken. */
  async is(employee: string): Promise<boolean> {
    try {
      return (await this.now())?.employee === employee;
    } catch (error) {
      if (isFault(error, 'record-forged')) return false;
      throw error;
    }
  }

  async begin(unit: Unit, reader: { employee: string; address: string }): Promise<void> {
    const { employee, address } = reader;
    const value = JSON.stringify({ employee, address, mac: this.seal.mac(SETTING, { employee, address }).toString('base64') });
    await unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
      SETTING,
      value,
    ]);
  }

  async end(unit: Unit): Promise<void> {
    await unit.run('DELETE FROM settings WHERE name = ?', [SETTING]);
  }
}

const BY_ITS_KEYS = `SELECT b.employee AS "employee", b.address AS "address" FROM keys k JOIN bindings b ON b.employee = k.employee
  WHERE k.mode = 'quorum' AND k.origin IS NULL AND b.to_time IS NULL ORDER BY b.from_time LIMIT 1`;
