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
import type { BindingRecord, Sealed, Token } from '../tokens/index.js';

/** An address as it stands bound to an employee; `shown` is how the person writes it. */
export interface Binding {
  sealed: Sealed<BindingRecord>;
  shown: string;
}

interface BindingRow {
  id: string;
  version: number;
  employee: string;
  address: string;
  shown: string;
  from_time: number;
  to_time: number | null;
  mac: Buffer;
}

const binding = (row: BindingRow): Binding => ({
  sealed: {
    record: {
      type: 'binding',
      id: row.id,
      version: row.version,
      employee: row.employee,
      address: row.address,
      from: row.from_time,
      to: row.to_time,
    },
    mac: row.mac,
  },
  shown: row.shown,
});

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
    const row = await reader.one<BindingRow>('SELECT * FROM bindings WHERE address = ? AND to_time IS NULL', [address]);
    return row && binding(row);
  }

  /** The open bindings of an employee, oldest first. */
  async bindingsOf(employee: string): Promise<Binding[]> {
    const rows = await this.storage.all<BindingRow>('SELECT * FROM bindings WHERE employee = ? AND to_time IS NULL ORDER BY from_time', [
      employee,
    ]);
    return rows.map(binding);
  }

  /** A sealed binding of a new employee, not stored yet: `insert` does that, in the unit of what makes the employee real. */
  async propose(address: Pick<Address, 'key' | 'shown'>): Promise<Binding> {
    const record: BindingRecord = {
      type: 'binding',
      id: newId(),
      version: 1,
      employee: newId(),
      address: address.key,
      from: this.clock.now().getTime(),
      to: null,
    };
    return { sealed: await this.token.seal(record), shown: address.shown };
  }

  /** Rejects with `duplicate` when the address got bound meanwhile. */
  async insert(unit: Unit, { sealed: { record, mac }, shown }: Binding, by: AuditActor): Promise<void> {
    await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', ?)", [record.employee, record.from]);
    await unit.run(
      'INSERT INTO bindings (id, version, employee, address, shown, from_time, to_time, mac) VALUES (?, ?, ?, ?, ?, ?, NULL, ?)',
      [record.id, record.version, record.employee, record.address, shown, record.from, mac],
    );
    await this.audit.append(unit, { action: 'employee.create', outcome: 'done', actor: by, employee: record.employee });
    await this.audit.append(unit, {
      action: 'binding.begin',
      outcome: 'done',
      actor: by,
      employee: record.employee,
      subject: record.id,
      personal: { address: record.address },
    });
  }

  /** The address stops being this employee's. Keys stay theirs; whoever proves the mailbox next is somebody new. */
  async endBinding(address: string, by: AuditActor, also: (unit: Unit, employee: string) => Promise<void> = async () => {}): Promise<void> {
    const current = await this.bindingOf(address);
    if (!current) throw new Fault('not-found', 'binding-unknown', 'this address is not bound to anybody');
    const { record } = current.sealed;
    const ended = await this.token.seal({ ...record, version: record.version + 1, to: this.clock.now().getTime() }, current.sealed);
    await this.storage.write(async (unit) => {
      const changed = await unit.run('UPDATE bindings SET version = ?, to_time = ?, mac = ? WHERE id = ? AND version = ?', [
        ended.record.version,
        ended.record.to,
        ended.mac,
        record.id,
        record.version,
      ]);
      if (changed === 0) throw new Fault('conflict', 'binding-changed', 'this binding was changed at the same time; look again');
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
      await intend(unit, record.id, 'raise-binding', { id: record.id }, this.clock);
    });
    await this.settleRaise(record.id);
  }

  /** A leaver: from the next request on nothing is released to any of their devices. Reversible by `resume`. */
  async stop(employee: string, by: AuditActor): Promise<void> {
    await this.#turn(employee, 'stopped', by);
  }

  async resume(employee: string, by: AuditActor): Promise<void> {
    await this.#turn(employee, 'active', by);
  }

  async #turn(employee: string, state: 'active' | 'stopped', by: AuditActor): Promise<void> {
    await this.storage.write(async (unit) => {
      const changed = await unit.run('UPDATE employees SET state = ? WHERE id = ?', [state, employee]);
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

  /** Tells the token process what the database says of this employee; also run at start for intents that a crash left open. */
  async settleBlock(employee: string): Promise<void> {
    const row = await this.storage.one<{ state: string }>('SELECT state FROM employees WHERE id = ?', [employee]);
    await (row?.state === 'active' ? this.token.unblock(employee) : this.token.block(employee));
    await this.storage.write((unit) => fulfil(unit, employee));
  }

  async settleRaise(id: string): Promise<void> {
    const row = await this.storage.one<BindingRow>('SELECT * FROM bindings WHERE id = ?', [id]);
    if (row) await this.token.raise(binding(row).sealed);
    await this.storage.write((unit) => fulfil(unit, id));
  }
}

/** What was kept for this person's devices goes; the token would be asked again. */
async function forgetDeliveries(unit: Unit, employee: string): Promise<void> {
  await unit.run('DELETE FROM deliveries WHERE device IN (SELECT id FROM devices WHERE employee = ?)', [employee]);
}
