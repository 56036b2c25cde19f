import type { KnownAdministrators, RowSeal, Sessions } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  type Clock,
  Fault,
  parseAddress,
  type Reader,
  type Role,
  type Storage,
  type Unit,
} from '../foundation/index.js';
import { Bootstrap, type BootstrapMemory, OFFICERS } from './bootstrap.js';
import type { Passkeys } from './passkeys.js';

export interface Administrator {
  id: string;
  name: string;
  /** Where announcements go; as `parseAddress` keys it. */
  address: string;
  role: Role | null;
  state: 'active' | 'removed';
  created: number;
}

type AdministratorRow = Administrator & { mac: Buffer };

const plain = ({ id, name, address, role, state, created }: Administrator) => ({ id, name, address, role, state, created });
const isOfficer = ({ role, state }: Administrator): boolean => role === 'security-officer' && state === 'active';

/** Administrators, each with one role or none. A row that was not sealed as it stands is nobody. */
export class Administrators implements KnownAdministrators {
  readonly bootstrap: Bootstrap;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly seal: RowSeal,
    private readonly passkeys: Passkeys,
    private readonly sessions: Sessions,
    clock: Clock,
    memory: BootstrapMemory,
  ) {
    this.bootstrap = new Bootstrap(storage, audit, clock, memory, async (reader) => (await this.list(reader)).filter(isOfficer).length);
  }

  /** Those who are not removed, oldest first. */
  async list(reader: Reader = this.storage): Promise<Administrator[]> {
    const rows = await reader.all<AdministratorRow>("SELECT * FROM administrators WHERE state <> 'removed' ORDER BY created, id");
    return rows.filter((row) => this.#genuine(row)).map(plain);
  }

  async find(id: string, reader: Reader = this.storage): Promise<Administrator | undefined> {
    const row = await reader.one<AdministratorRow>('SELECT * FROM administrators WHERE id = ?', [id]);
    return row && this.#genuine(row) ? plain(row) : undefined;
  }

  /** Rejects with `administrator-unknown`, for those who were removed too. */
  async active(id: string, reader: Reader = this.storage): Promise<Administrator> {
    const found = await this.find(id, reader);
    if (found?.state !== 'active') throw new Fault('not-found', 'administrator-unknown', 'there is no such administrator');
    return found;
  }

  async byAddress(address: string): Promise<Administrator | undefined> {
    const { key } = parseAddress(address);
    return (await this.list()).find((one) => one.address === key);
  }

  /** One role or none; a person's sessions end with the change. Rejects with `officers-too-few`. */
  async setRole(id: string, role: Role | null, by: AuditActor): Promise<void> {
    await this.storage.write(async (unit) => {
      await this.#turn(unit, id, (current) => ({ ...current, role }), by);
      await this.audit.append(unit, {
        action: 'administrator.role',
        outcome: 'done',
        actor: by,
        subject: id,
        facts: { role: role ?? 'none' },
      });
      await this.bootstrap.settle(unit);
    });
  }

  /** Their passkeys and sessions go; the log keeps what they did. Rejects with `officers-too-few`. */
  async remove(id: string, by: AuditActor): Promise<void> {
    await this.storage.write(async (unit) => {
      await this.#turn(unit, id, (current) => ({ ...current, role: null, state: 'removed' }), by);
      for (const passkey of await this.passkeys.of(id, unit)) await this.passkeys.remove(unit, passkey.id);
      await this.audit.append(unit, { action: 'administrator.remove', outcome: 'done', actor: by, subject: id });
    });
  }

  /** Rejects with `duplicate` when the address is somebody's. */
  async insert(unit: Unit, row: Administrator): Promise<void> {
    await unit.run('INSERT INTO administrators (id, name, address, role, state, created, mac) VALUES (?, ?, ?, ?, ?, ?, ?)', [
      ...[row.id, row.name, row.address, row.role, row.state, row.created],
      this.seal.mac('administrators', plain(row)),
    ]);
  }

  async change(unit: Unit, row: Administrator): Promise<void> {
    await unit.run('UPDATE administrators SET name = ?, address = ?, role = ?, state = ?, mac = ? WHERE id = ?', [
      ...[row.name, row.address, row.role, row.state],
      this.seal.mac('administrators', plain(row)),
      row.id,
    ]);
  }

  async #turn(unit: Unit, id: string, to: (current: Administrator) => Administrator, by: AuditActor): Promise<void> {
    const current = await this.active(id, unit);
    const next = to(current);
    const officers = (await this.list(unit)).filter(isOfficer).length;
    // Bootstrap must not come back by officers leaving, and one alone could do nothing but break the glass.
    if (isOfficer(current) && !isOfficer(next) && officers <= OFFICERS && (await this.bootstrap.isOver(unit)))
      throw new Fault('conflict', 'officers-too-few', 'two security officers have to remain: make another one first');
    await this.change(unit, next);
    await this.sessions.endAllOf(unit, 'administration', id, by);
  }

  #genuine(row: AdministratorRow): boolean {
    return this.seal.holds('administrators', plain(row), row.mac);
  }
}
