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
import type { MemberRecord, Sealed, Token } from '../tokens/index.js';
import type { Employees } from './employees.js';

/** A mailbox that somebody reads, with the token's word for it. */
export interface Membership {
  /** Employee id that its keys belong to. */
  mailbox: string;
  /** As its people write it. */
  address: string;
  sealed: Sealed<MemberRecord>;
}

interface MemberRow {
  id: string;
  version: number;
  mailbox: string;
  employee: string;
  from_time: number;
  to_time: number | null;
  mac: Buffer;
}

const sealedOf = ({ id, version, mailbox, employee, from_time: from, to_time: to, mac }: MemberRow): Sealed<MemberRecord> => ({
  record: { type: 'member', id, version, mailbox, employee, from, to },
  mac,
});

/**
 * Mailboxes that several people read, each on devices of their own and by name in the log. The mailbox is nobody: no device enrols by its address. Who reads
 * it is sealed by the token, so that no row of a database makes somebody a reader.
 */
export class SharedMailboxes {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly employees: Employees,
    private readonly clock: Clock,
  ) {}

  /** Rejects with `address-bound`: keys of a person never become a mailbox's. Resolves with the mailbox's employee id. */
  async create(
    address: Pick<Address, 'key' | 'shown'>,
    by: AuditActor,
    also: (unit: Unit, mailbox: string) => Promise<void>,
  ): Promise<string> {
    const binding = await this.employees.propose(address);
    const { employee: mailbox } = binding.sealed.record;
    await this.storage.write(async (unit) => {
      if (await this.employees.bindingOf(address.key, unit))
        throw new Fault('conflict', 'address-bound', 'this address is bound to somebody already: ekms employee release-address ends that');
      await this.employees.insert(unit, binding, by);
      await unit.run("UPDATE employees SET kind = 'mailbox' WHERE id = ?", [mailbox]);
      await this.audit.append(unit, { action: 'mailbox.create', outcome: 'done', actor: by, employee: mailbox });
      await also(unit, mailbox);
    });
    return mailbox;
  }

  async isMailbox(employee: string, reader: Reader = this.storage): Promise<boolean> {
    return (await reader.one("SELECT id FROM employees WHERE id = ? AND kind = 'mailbox'", [employee])) !== undefined;
  }

  /** From now on this person's devices get the mailbox's keys, all of them. Rejects with `mailbox-unknown`, `member-already`. */
  async add(mailbox: string, employee: string, by: AuditActor): Promise<void> {
    await this.#requireMailbox(mailbox);
    if (await this.isMailbox(employee)) throw new Fault('conflict', 'mailbox-unfit', 'a mailbox reads no mailbox');
    const from = this.clock.now().getTime();
    const { record, mac } = await this.token.seal<MemberRecord>({
      type: 'member',
      id: newId(),
      version: 1,
      mailbox,
      employee,
      from,
      to: null,
    });
    await this.storage.write(async (unit) => {
      if (await this.#current(unit, mailbox, employee))
        throw new Fault('conflict', 'member-already', 'this person reads the mailbox already');
      await unit.run(
        'INSERT INTO mailbox_members (id, version, mailbox, employee, from_time, to_time, mac) VALUES (?, ?, ?, ?, ?, NULL, ?)',
        [...[record.id, record.version, mailbox, employee, from], mac],
      );
      await this.audit.append(unit, {
        ...{ action: 'mailbox.add', outcome: 'done', actor: by, employee: mailbox, subject: record.id },
        facts: { member: employee },
      });
    });
  }

  /** From the next request on nothing of the mailbox goes to this person's devices; what they have, they have. Rejects with `member-unknown`. */
  async remove(mailbox: string, employee: string, by: AuditActor): Promise<void> {
    await this.#requireMailbox(mailbox);
    const current = await this.#current(this.storage, mailbox, employee);
    if (!current) throw new Fault('not-found', 'member-unknown', 'this person does not read the mailbox');
    const before = sealedOf(current);
    const to = this.clock.now().getTime();
    const { record, mac } = await this.token.seal<MemberRecord>({ ...before.record, to, version: before.record.version + 1 }, before);
    await this.storage.write(async (unit) => {
      const sql = 'UPDATE mailbox_members SET version = ?, to_time = ?, mac = ? WHERE id = ? AND version = ?';
      if ((await unit.run(sql, [record.version, to, mac, record.id, before.record.version])) === 0)
        throw new Fault('conflict', 'member-unknown', 'this was changed at the same time; look again');
      await unit.run(
        'DELETE FROM deliveries WHERE device IN (SELECT id FROM devices WHERE employee = ?) AND key IN (SELECT id FROM keys WHERE employee = ?)',
        [employee, mailbox],
      );
      await this.audit.append(unit, {
        ...{ action: 'mailbox.remove', outcome: 'done', actor: by, employee: mailbox, subject: record.id },
        facts: { member: employee },
      });
      await fulfil(unit, record.id);
      await intend(unit, record.id, 'raise-member', {}, this.clock);
    });
    await this.settleRaise(record.id);
  }

  /** Who reads it and who did, oldest first. */
  async membersOf(mailbox: string): Promise<{ employee: string; addresses: string[]; from: number; to: number | null }[]> {
    await this.#requireMailbox(mailbox);
    const rows = await this.storage.all<MemberRow>('SELECT * FROM mailbox_members WHERE mailbox = ? ORDER BY from_time, id', [mailbox]);
    return Promise.all(
      rows.map(async ({ employee, from_time: from, to_time: to }) => ({
        employee,
        addresses: (await this.employees.bindingsOf(employee)).map(({ shown }) => shown),
        from: Number(from),
        to: to === null ? null : Number(to),
      })),
    );
  }

  /** The mailboxes that this person reads now. */
  async of(employee: string): Promise<Membership[]> {
    // On the way of each retrieval, and nearly always empty: one table at a time, see storage's door.
    const rows = await this.storage.all<MemberRow>('SELECT * FROM mailbox_members WHERE employee = ? AND to_time IS NULL', [employee]);
    const memberships: Membership[] = [];
    for (const row of rows) {
      const { mailbox } = row;
      if (!(await this.storage.one("SELECT id FROM employees WHERE id = ? AND state = 'active'", [mailbox]))) continue;
      const [address] = await this.employees.bindingsOf(mailbox);
      if (address) memberships.push({ mailbox, address: address.shown, sealed: sealedOf(row) });
    }
    return memberships;
  }

  /** Tells the token process that a membership ended; also run at start for what a crash cut off. */
  async settleRaise(id: string): Promise<void> {
    const row = await this.storage.one<MemberRow>('SELECT * FROM mailbox_members WHERE id = ?', [id]);
    if (row) await this.token.raise(sealedOf(row));
    await this.storage.write((unit) => fulfil(unit, id));
  }

  /** After a restore: the token process hears of every membership that the rows say has ended. */
  async tellTokenAll(): Promise<void> {
    for (const row of await this.storage.all<MemberRow>('SELECT * FROM mailbox_members WHERE version > 1'))
      await this.token.raise(sealedOf(row));
  }

  async #current(reader: Reader, mailbox: string, employee: string): Promise<MemberRow | undefined> {
    return reader.one<MemberRow>('SELECT * FROM mailbox_members WHERE mailbox = ? AND employee = ? AND to_time IS NULL', [
      mailbox,
      employee,
    ]);
  }

  async #requireMailbox(employee: string): Promise<void> {
    if (!(await this.isMailbox(employee)))
      throw new Fault('not-found', 'mailbox-unknown', 'this is no shared mailbox: ekms mailbox create makes one');
  }
}
