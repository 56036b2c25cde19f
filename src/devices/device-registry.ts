import { auditActor, type DeviceActor, DeviceTrust, type KnownDevice } from '../access/index.js';
import type { RevocationLists } from '../certificates/index.js';
import {
  type AuditActor,
  type AuditLog,
  type Clock,
  Fault,
  orRefused,
  type Reader,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';
import type { Token } from '../tokens/index.js';

export interface Device {
  id: string;
  employee: string;
  platform: string;
  name: string | null;
  state: 'active' | 'frozen' | 'revoked';
  enrolled: number;
}

/** What an enrolment adds. */
export interface NewDevice {
  id: string;
  employee: string;
  certificate: Buffer;
  serial: string;
  deliveryKey: Buffer;
  jkt: string;
  platform: string;
  name: string | null;
  app: string;
}

/** A table that this reads from is counted by `device_trust` (storage's migration 0042), or a change of it would go unseen. */
const LOOK_UP = `SELECT d.id AS "id", d.employee AS "employee", d.delivery_key AS "deliveryKey", d.state AS "state", d.platform AS "platform", d.app AS "app",
  (SELECT a.state FROM apps a WHERE a.id = d.app) AS "appState", (SELECT min(f.scope) FROM budget_freezes f WHERE f.subject IN (d.id, d.employee)) AS "frozen",
  (SELECT e.state FROM employees e WHERE e.id = d.employee) AS "employeeState" FROM devices d WHERE d.certificate_digest = ?`;

/** Devices that end in one unit of work. */
const AT_ONCE = 100;

/** The devices of all people: who they are, and their end. What ends here is blocked in the token process too, where no database can undo it. */
export class DeviceRegistry extends DeviceTrust {
  /** By the digest's bytes, which the guard keeps as long as the connection. */
  readonly #found = new WeakMap<Buffer, { generation: number; known: KnownDevice }>();
  #generation: Promise<number | undefined> | undefined;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly revocations: RevocationLists,
    private readonly clock: Clock,
    /** Active devices that one person may have. */
    private readonly most: number,
  ) {
    super();
  }

  /** What was looked up once for an open connection's certificate counts until the database says that anything it rests on has changed. */
  override async find(certificateDigest: Buffer): Promise<KnownDevice | undefined> {
    // Before the look-up: what changes in between is looked up again next time.
    const generation = await this.#currentGeneration();
    const remembered = this.#found.get(certificateDigest);
    if (remembered && remembered.generation === generation) return remembered.known;
    const known = await this.storage.one<KnownDevice>(LOOK_UP, [certificateDigest]);
    if (known && generation !== undefined) this.#found.set(certificateDigest, { generation, known });
    return known;
  }

  /** Asked once for all requests that one turn of the event loop brings: they came in together, and a change that any of them could know of came before. */
  #currentGeneration(): Promise<number | undefined> {
    if (!this.#generation) {
      this.#generation = this.storage
        .one<{ generation: number }>('SELECT generation FROM device_trust WHERE id = 1')
        .then((row) => row?.generation);
      setImmediate(() => {
        this.#generation = undefined;
      });
    }
    return this.#generation;
  }

  async ofEmployee(employee: string): Promise<Device[]> {
    return this.storage.all<Device>(
      'SELECT id, employee, platform, name, state, enrolled FROM devices WHERE employee = ? ORDER BY enrolled, id',
      [employee],
    );
  }

  /** Throws `device-key-used` when either key has been on a device before: keys are never shared between devices. */
  async requireFresh(jkt: string, deliveryDigest: Buffer): Promise<void> {
    const used = await this.storage.one('SELECT id FROM devices WHERE identity_jkt = ? OR delivery_digest = ?', [jkt, deliveryDigest]);
    if (used) throw new Fault('conflict', 'device-key-used', 'a device with this key is or was enrolled; make new keys');
  }

  /** Throws `device-cap` when this person has as many active devices as they may: none of them gives way by itself. */
  async requireRoom(reader: Reader, employee: string): Promise<void> {
    const { count = 0 } =
      (await reader.one<{ count: number }>("SELECT count(*) AS count FROM devices WHERE employee = ? AND state = 'active'", [employee])) ??
      {};
    if (Number(count) >= this.most)
      throw new Fault(
        'conflict',
        'device-cap',
        `you have ${count} devices, as many as you may: remove one of them ("mesign devices"), or ask your administrator`,
      );
  }

  async insert(unit: Unit, device: NewDevice): Promise<void> {
    await unit.run(
      `INSERT INTO devices (id, employee, certificate_digest, serial, delivery_key, delivery_digest, identity_jkt, platform, name, app, state, enrolled)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'active', ?)`,
      [
        device.id,
        device.employee,
        sha256(device.certificate),
        device.serial,
        device.deliveryKey,
        sha256(device.deliveryKey),
        device.jkt,
        device.platform,
        device.name,
        device.app,
        this.clock.now().getTime(),
      ],
    );
  }

  /** A device takes itself away. Removing another wants a second proof, which only an administrator can give yet. */
  async removeOwn(actor: DeviceActor, id: string): Promise<void> {
    const { employee, request } = actor;
    const event = {
      action: 'device.revoke',
      actor: auditActor(actor),
      employee,
      device: actor.id,
      subject: id,
      request: request.id,
    } as const;
    await orRefused({ storage: this.storage, audit: this.audit }, event, async () => {
      const mine = (await this.ofEmployee(employee)).some((device) => device.id === id);
      if (!mine) throw new Fault('not-found', 'device-unknown', 'you have no device of this id');
      if (id !== actor.id)
        throw new Fault('forbidden', 'second-proof-needed', 'a device may remove itself; for another one ask your administrator');
      await this.end(id, 'revoked', auditActor(actor));
    });
  }

  /** Ends a device: `revoked` for good, `frozen` because the person said "this was not me". Both need a new enrolment. */
  async end(id: string, state: 'revoked' | 'frozen', by: AuditActor): Promise<void> {
    await this.storage.write((unit) => this.#end(unit, id, state, by));
    await this.settleBlock(id);
  }

  /** After a restore that may have lost revocations: every device ends and must be enrolled anew. Resolves with how many there were. */
  async endAll(by: AuditActor): Promise<number> {
    const devices = await this.storage.all<{ id: string; employee: string; serial: string }>(
      "SELECT id, employee, serial FROM devices WHERE state = 'active' ORDER BY id",
    );
    for (const { id, employee, serial } of devices) {
      await this.storage.write(async (unit) => {
        await unit.run("UPDATE devices SET state = 'revoked' WHERE id = ?", [id]);
        await this.revocations.revoke(unit, serial, 'cessationOfOperation', by);
        await this.audit.append(unit, { action: 'device.revoke', outcome: 'done', reason: 'restored', actor: by, employee, device: id });
      });
      await this.token.block(id);
    }
    if (devices.length > 0) await this.revocations.publish('devices');
    return devices.length;
  }

  async #end(unit: Unit, id: string, state: 'revoked' | 'frozen', by: AuditActor): Promise<void> {
    const device = await unit.one<{ employee: string; serial: string }>('SELECT employee, serial FROM devices WHERE id = ?', [id]);
    if (!device) throw new Fault('not-found', 'device-unknown', 'there is no device of this id');
    const changed = await unit.run("UPDATE devices SET state = ? WHERE id = ? AND state <> 'revoked' AND state <> ?", [state, id, state]);
    if (changed === 0) throw new Fault('conflict', 'device-ended', 'this device is ended already');
    await unit.run('DELETE FROM deliveries WHERE device = ?', [id]);
    await this.revocations.revoke(unit, device.serial, state === 'frozen' ? 'keyCompromise' : 'cessationOfOperation', by);
    await this.audit.append(unit, {
      action: state === 'frozen' ? 'device.freeze' : 'device.revoke',
      outcome: 'done',
      actor: by,
      employee: device.employee,
      device: id,
    });
    await fulfil(unit, id);
    await intend(unit, id, 'block-device', {}, this.clock);
  }

  /**
   * Ends every device that an app credential enrolled. They get nothing from the moment that the credential is `stopped` (the guard looks at it);
   * here each one also ends for good, in units that others can come between. What a crash cut is gone on with at start. Resolves with their number.
   */
  async endAllOf(app: string, by: AuditActor): Promise<number> {
    const all = await this.storage.all<{ id: string }>("SELECT id FROM devices WHERE app = ? AND state <> 'revoked' ORDER BY id", [app]);
    const ended = await this.endThese(
      all.map(({ id }) => id),
      by,
    );
    await this.storage.write((unit) => fulfil(unit, app));
    return ended;
  }

  /** Ends these for good, in units that others can come between. Resolves with how many there were. */
  async endThese(ids: readonly string[], by: AuditActor): Promise<number> {
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      const some = ids.slice(at, at + AT_ONCE);
      await this.storage.write(async (unit) => {
        // Its owner may have been quicker.
        for (const id of some)
          if (await unit.one("SELECT id FROM devices WHERE id = ? AND state <> 'revoked'", [id])) await this.#end(unit, id, 'revoked', by);
      });
      for (const id of some) await this.token.block(id);
    }
    if (ids.length > 0) await this.revocations.publish('devices');
    await this.storage.write(async (unit) => {
      for (const id of ids) await fulfil(unit, id);
    });
    return ids.length;
  }

  /** Blocks the device in the token process and publishes its revocation; also run at start for intents that a crash left open. */
  async settleBlock(id: string): Promise<void> {
    await this.token.block(id);
    await this.revocations.publish('devices');
    await this.storage.write((unit) => fulfil(unit, id));
  }
}
