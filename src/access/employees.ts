import {
  type Address,
  type AuditActor,
  type AuditLog,
  type Clock,
  Fault,
  newId,
  type Reader,
  type Storage,
  type Unit,
} from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';
import type { BindingRecord, HeldMode, Sealed, Token } from '../tokens/index.js';

/** An address as it stands bound to an employee; `shown` is how the person writes it. */
export interface Binding {
  sealed: Sealed<BindingRecord>;
  shown: string;
}

/** A row of `bindings`, but for how the person writes the address. */
export interface BindingRow {
  id: string;
  version: number;
  employee: string;
  address: string;
  from_time: number;
  to_time: number | null;
  directory: string | null;
  mac: Buffer;
}

type ShownRow = BindingRow & { shown: string };

/** What the token is asked about a binding with. */
export const sealedBinding = ({ from_time: from, to_time: to, directory, mac, ...row }: BindingRow): Sealed<BindingRecord> => ({
  record: {
    type: 'binding',
    id: row.id,
    version: row.version,
    employee: row.employee,
    address: row.address,
    from,
    to,
    ...(directory === null ? {} : { directory }),
  },
  mac,
});

const binding = (row: ShownRow): Binding => ({ sealed: sealedBinding(row), shown: row.shown });

/**
 * Employees and the addresses bound to them. Keys belong to an employee, never to an address: when a binding ends, the address's next owner
 * is a new employee with no history. Bindings are sealed by the token, so a database row cannot make one person another.
 */
export class Employees {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly clock: Clock,
  ) {}

  async bindingOf(address: string, reader: Reader = this.storage): Promise<Binding | undefined> {
    const row = await reader.one<ShownRow>('SELECT * FROM bindings WHERE address = ? AND to_time IS NULL', [address]);
    return row && binding(row);
  }

  /** The open bindings of an employee, oldest first. */
  async bindingsOf(employee: string): Promise<Binding[]> {
    const rows = await this.storage.all<ShownRow>('SELECT * FROM bindings WHERE employee = ? AND to_time IS NULL ORDER BY from_time', [
      employee,
    ]);
    return rows.map(binding);
  }

  /** Whether the address is the organisation's own, whose keys are a quorum's: nobody proves a mailbox for it. */
  async isReserved(address: string, reader: Reader = this.storage): Promise<boolean> {
    const sql =
      "SELECT b.id FROM bindings b JOIN employees e ON e.id = b.employee WHERE b.address = ? AND b.to_time IS NULL AND e.mode = 'quorum'";
    return (await reader.one(sql, [address])) !== undefined;
  }

  /** A sealed binding of a new employee, not stored yet: `insert` does that, in the unit of what makes the employee real. */
  async propose(address: Pick<Address, 'key' | 'shown'>, directory?: string): Promise<Binding> {
    return this.#bound(newId(), address, directory);
  }

  async #bound(employee: string, address: Pick<Address, 'key' | 'shown'>, directory: string | undefined): Promise<Binding> {
    const record: BindingRecord = {
      type: 'binding',
      id: newId(),
      version: 1,
      employee,
      address: address.key,
      from: this.clock.now().getTime(),
      to: null,
      ...(directory === undefined ? {} : { directory }),
    };
    return { sealed: await this.token.seal(record), shown: address.shown };
  }

  /**
   * Rejects with `duplicate` when the address got bound meanwhile, or the directory's id did.
   * @param mode of all keys that this employee will have; without it, what the configuration says
   */
  async insert(unit: Unit, binding: Binding, by: AuditActor, mode?: HeldMode): Promise<void> {
    const { employee, from, directory = null } = binding.sealed.record;
    await unit.run("INSERT INTO employees (id, directory_id, state, mode, created) VALUES (?, ?, 'active', ?, ?)", [
      employee,
      directory,
      mode ?? null,
      from,
    ]);
    await this.audit.append(unit, { action: 'employee.create', outcome: 'done', actor: by, employee });
    await this.#insertBinding(unit, binding, by);
  }

  async #insertBinding(unit: Unit, { sealed: { record, mac }, shown }: Binding, by: AuditActor): Promise<void> {
    await unit.run(
      'INSERT INTO bindings (id, version, employee, address, shown, from_time, to_time, directory, mac) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?)',
      [record.id, record.version, record.employee, record.address, shown, record.from, record.directory ?? null, mac],
    );
    await this.audit.append(unit, {
      action: 'binding.begin',
      outcome: 'done',
      actor: by,
      employee: record.employee,
      subject: record.id,
      personal: { address: record.address },
    });
  }

  /** The employee whom the directory knows by this id, by the word of a binding that the token sealed; undefined for nobody's. */
  async ofDirectory(directory: string): Promise<string | undefined> {
    const row = await this.storage.one<BindingRow>('SELECT * FROM bindings WHERE directory = ? ORDER BY from_time DESC, id LIMIT 1', [
      directory,
    ]);
    if (!row) return undefined;
    // Who writes the database must not make one person another: the token looks at the seal, and that it is the latest.
    await this.token.raise(sealedBinding(row));
    return row.employee;
  }

  /** A further address of a person whom the directory knows. Rejects with `directory-id-unknown`, `address-bound`. */
  async addAddress(directory: string, address: Pick<Address, 'key' | 'shown'>, by: AuditActor): Promise<void> {
    const employee = await this.ofDirectory(directory);
    if (!employee) throw new Fault('not-found', 'directory-id-unknown', 'the directory’s id belongs to no employee here');
    const further = await this.#bound(employee, address, directory);
    await this.storage.write(async (unit) => {
      if (await this.bindingOf(address.key, unit))
        throw new Fault('conflict', 'address-bound', 'this address is bound to somebody already');
      await this.#insertBinding(unit, further, by);
    });
  }

  /** From now on this owner of this address is whom the directory knows by this id. Rejects with `binding-unknown`, `binding-changed`, `directory-id-taken`. */
  async link({ employee, address, directory }: { employee: string; address: string; directory: string }, by: AuditActor): Promise<void> {
    const current = await this.#require(address);
    const { record } = current.sealed;
    if (record.employee !== employee) throw new Fault('conflict', 'binding-changed', 'this address has another owner by now');
    await this.#succeed(current, { directory }, async (unit) => {
      if (await unit.one('SELECT id FROM employees WHERE directory_id = ? AND id <> ?', [directory, record.employee]))
        throw new Fault('conflict', 'directory-id-taken', 'the directory’s id belongs to another employee; joining two is for two persons');
      await unit.run('UPDATE employees SET directory_id = ? WHERE id = ?', [directory, record.employee]);
      await this.audit.append(unit, {
        action: 'binding.link',
        outcome: 'done',
        actor: by,
        employee: record.employee,
        subject: record.id,
        personal: { directory },
      });
    });
  }

  /** Everybody who ever owned this address, the present owner first. */
  async ownersOf(address: string): Promise<{ employee: string; state: string; from: number; to: number | null }[]> {
    return this.storage.all(
      `SELECT b.employee AS "employee", e.state AS "state", b.from_time AS "from", b.to_time AS "to" FROM bindings b JOIN employees e ON e.id = b.employee
       WHERE b.address = ? ORDER BY b.from_time DESC, b.id`,
      [address],
    );
  }

  /**
   * Two employees turn out to be one person (a returner with a new entry in the directory): the address, and with it the directory's id, goes to
   * the former one, who keeps their keys. What the newcomer's devices have stays theirs. Rejects with `binding-unknown`, `employee-unknown`,
   * `same-employee`.
   */
  async join(address: string, former: string, by: AuditActor, also: (unit: Unit, newcomer: string) => Promise<void>): Promise<void> {
    const current = await this.#require(address);
    const { employee: newcomer, directory } = current.sealed.record;
    if (newcomer === former) throw new Fault('conflict', 'same-employee', 'this address is that employee’s already');
    const past = await this.storage.one<BindingRow>(
      'SELECT * FROM bindings WHERE address = ? AND employee = ? ORDER BY from_time DESC LIMIT 1',
      [address, former],
    );
    if (!past) throw new Fault('not-found', 'employee-unknown', 'no former owner of this address has that id');
    // That they were is the token's word, not the database's.
    await this.token.raise(sealedBinding(past));
    const successor = await this.#bound(former, { key: address, shown: current.shown }, directory);
    await this.endBinding(address, by, async (unit, ended) => {
      if (ended !== newcomer) throw new Fault('conflict', 'binding-changed', 'this address has another owner by now');
      await also(unit, newcomer);
      if (directory !== undefined) {
        await unit.run('UPDATE employees SET directory_id = NULL WHERE id = ?', [newcomer]);
        await unit.run('UPDATE employees SET directory_id = ? WHERE id = ?', [directory, former]);
      }
      await this.#insertBinding(unit, successor, by);
      await this.audit.append(unit, { action: 'employee.join', outcome: 'done', actor: by, employee: former, subject: newcomer });
    });
  }

  async #require(address: string): Promise<Binding> {
    const current = await this.bindingOf(address);
    if (!current) throw new Fault('not-found', 'binding-unknown', 'this address is not bound to anybody');
    return current;
  }

  /** The next version of a binding: sealed, committed with its entry, then raised in the token process. */
  async #succeed(
    current: Binding,
    change: Partial<Pick<BindingRecord, 'to' | 'directory'>>,
    also: (unit: Unit) => Promise<void>,
  ): Promise<void> {
    const { record } = current.sealed;
    const next = await this.token.seal<BindingRecord>({ ...record, ...change, version: record.version + 1 }, current.sealed);
    const { version, to, directory = null } = next.record;
    await this.storage.write(async (unit) => {
      const changed = await unit.run('UPDATE bindings SET version = ?, to_time = ?, directory = ?, mac = ? WHERE id = ? AND version = ?', [
        version,
        to,
        directory,
        next.mac,
        record.id,
        record.version,
      ]);
      if (changed === 0) throw new Fault('conflict', 'binding-changed', 'this binding was changed at the same time; look again');
      await also(unit);
      await fulfil(unit, record.id);
      await intend(unit, record.id, 'raise-binding', { id: record.id }, this.clock);
    });
    await this.settleRaise(record.id);
  }

  /** The address stops being this employee's. Keys stay theirs; whoever proves the mailbox next is somebody new. */
  async endBinding(address: string, by: AuditActor, also: (unit: Unit, employee: string) => Promise<void> = async () => {}): Promise<void> {
    const current = await this.#require(address);
    const { record } = current.sealed;
    await this.#succeed(current, { to: this.clock.now().getTime() }, async (unit) => {
      await forgetDeliveries(unit, record.employee);
      // What was begun for this address under its former owner ends with it.
      await unit.run("UPDATE enrolments SET state = 'denied' WHERE address = ? AND state IN ('open', 'waiting', 'approved')", [address]);
      await unit.run('UPDATE challenges SET spent = 1 WHERE address = ?', [address]);
      await also(unit, record.employee);
      await this.audit.append(unit, {
        action: 'binding.end',
        outcome: 'done',
        actor: by,
        employee: record.employee,
        subject: record.id,
        personal: { address },
      });
    });
  }

  /** A leaver: from the next request on nothing is released to any of their devices. Reversible by `resume`. */
  async stop(employee: string, by: AuditActor): Promise<void> {
    await this.#turn(employee, 'stopped', by);
  }

  async resume(employee: string, by: AuditActor): Promise<void> {
    await this.#turn(employee, 'active', by);
  }

  /** A leaver by the word of the directory. Such a stop ends when the directory takes it back; an operator's does not, and replaces it. */
  async stopByDirectory(employee: string, by: AuditActor): Promise<void> {
    await this.#turn(employee, 'stopped', by, await this.token.sealBytes(Buffer.from('stopped', 'ascii'), directoryStop(employee)));
  }

  /** Ends a stop that the directory made. Rejects with `stopped-by-operator` for any other. */
  async resumeByDirectory(employee: string, by: AuditActor): Promise<void> {
    const row = await this.storage.one<{ mark: Buffer | null }>('SELECT directory_stop AS "mark" FROM employees WHERE id = ?', [employee]);
    if (!row?.mark) throw new Fault('conflict', 'stopped-by-operator', 'an operator stopped this person; only an operator takes that back');
    await this.token.openBytes(row.mark, directoryStop(employee));
    await this.#turn(employee, 'active', by);
  }

  async #turn(employee: string, state: 'active' | 'stopped', by: AuditActor, mark: Buffer | null = null): Promise<void> {
    await this.storage.write(async (unit) => {
      const sql = `UPDATE employees SET state = ?, directory_stop = ? WHERE id = ?${mark ? " AND state = 'active'" : ''}`;
      const changed = await unit.run(sql, [state, mark, employee]);
      if (changed === 0 && mark) throw new Fault('conflict', 'employee-stopped', 'this person is stopped already');
      if (changed === 0) throw new Fault('not-found', 'employee-unknown', 'there is no such employee');
      if (state === 'stopped') await forgetDeliveries(unit, employee);
      await this.audit.append(unit, {
        action: state === 'stopped' ? 'employee.stop' : 'employee.resume',
        outcome: 'done',
        actor: by,
        employee,
      });
      await fulfil(unit, employee);
      await intend(unit, employee, 'block-employee', {}, this.clock);
    });
    await this.settleBlock(employee);
  }

  /**
   * Tells the token process what the database says of this employee; also run at start for intents that a crash left open. Of a stop and a return that cross one
   * another the later one has the last word there too.
   */
  async settleBlock(employee: string): Promise<void> {
    const stateIn = async (reader: Reader) =>
      (await reader.one<{ state: string }>('SELECT state FROM employees WHERE id = ?', [employee]))?.state;
    for (let isSettled = false; !isSettled; ) {
      const told = await stateIn(this.storage);
      await (told === 'active' ? this.token.unblock(employee) : this.token.block(employee));
      isSettled = await this.storage.write(async (unit) => {
        if ((await stateIn(unit)) !== told) return false;
        await fulfil(unit, employee);
        return true;
      });
    }
  }

  /** After a restore: the token process hears of every stop and of every later version of a binding that the rows tell of. */
  async tellTokenAll(): Promise<void> {
    for (const { id } of await this.storage.all<{ id: string }>("SELECT id FROM employees WHERE state <> 'active'"))
      await this.settleBlock(id);
    for (const row of await this.storage.all<BindingRow>('SELECT * FROM bindings WHERE version > 1'))
      await this.token.raise(sealedBinding(row));
  }

  async settleRaise(id: string): Promise<void> {
    const row = await this.storage.one<BindingRow>('SELECT * FROM bindings WHERE id = ?', [id]);
    if (row) await this.token.raise(sealedBinding(row));
    await this.storage.write((unit) => fulfil(unit, id));
  }
}

const directoryStop = (employee: string): string => `directory-stop:${employee}`;

/** What was kept for this person's devices goes; the token would be asked again. */
async function forgetDeliveries(unit: Unit, employee: string): Promise<void> {
  await unit.run('DELETE FROM deliveries WHERE device IN (SELECT id FROM devices WHERE employee = ?)', [employee]);
}
