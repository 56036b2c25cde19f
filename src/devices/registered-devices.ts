import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type AppActor, auditActor, type RowSeal } from '../access/index.js';
import { judgeManagedDevice, type UnfitCertificate } from '../codec/x509/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  isFault,
  type Json,
  orRefused,
  parseAddress,
  type Reader,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { DeviceRegistry } from './device-registry.js';
import type { DeviceRevocations } from './device-revocations.js';

/** How a device says which registered machine it is (docs/formats/enrolment.md §1). */
export type RegistrationClaim =
  | { identifier: string }
  /** DER, and a signature by its key over `statement`. */
  | { certificate: Buffer; signature: Buffer };

/** The registration that an enrolment rests on. */
export interface Registration {
  source: 'list' | 'mdm';
  /** Of the list, the identifier; of the MDM, a digest of the machine's key and the person. One active device at a time has it. */
  subject: string;
}

export interface RegistrationEntry {
  identifier: string;
  address: string;
}

export interface RegistrationSettings {
  /** Whether only registered machines may enrol. */
  device: 'any' | 'registered';
  /** DER: CAs of the organisation's device management. */
  authorities: readonly Buffer[];
  /** Their revocation lists, where the organisation gives them. */
  revocations: DeviceRevocations | undefined;
  /** SHA-256 of the root certificate, base64url. */
  server: string;
}

/** The CAs of a PEM file that ekms.yaml names, DER. Rejects with `device-authorities-malformed`. */
export function readDeviceAuthorities(file: string | undefined): Buffer[] {
  if (file === undefined) return [];
  const unfit = (why: string) =>
    new Fault(
      'misconfigured',
      'device-authorities-malformed',
      `enrolment.deviceAuthoritiesFile (${file}) ${why}; it holds the CA certificates of your device management, PEM`,
    );
  try {
    const pems = readFileSync(file, 'latin1').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    const authorities = pems.map((pem) => new X509Certificate(pem));
    if (authorities.length === 0) throw unfit('holds no certificate');
    if (authorities.some(({ ca }) => !ca)) throw unfit('holds a certificate that is no CA');
    return authorities.map(({ raw }) => raw);
  } catch (error) {
    if (isFault(error)) throw error;
    throw unfit(`cannot be read: ${(error as Error).message}`);
  }
}

type Rule = 'missing' | 'unknown' | 'other-person' | 'in-use' | 'forged' | 'proof-wrong' | UnfitCertificate;

/** As inventories write them; compared without case. */
const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/;

const plain = ({ identifier, address, added }: { identifier: string; address: string; added: number }) => ({ identifier, address, added });

/**
 * Machines that an organisation names before they may enrol (policy `enrolment.device: registered`): by a list of identifiers, each for one
 * person, or by the certificate that its device management gave to the machine. Whatever is wrong, the asker hears the same word; the rule is in the log.
 */
export class RegisteredDevices {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly seal: RowSeal,
    private readonly registry: DeviceRegistry,
    private readonly clock: Clock,
    private readonly settings: RegistrationSettings,
  ) {}

  get isAsked(): boolean {
    return this.settings.device === 'registered';
  }

  /** What the machine's key signs: this person's enrolment of these two keys, here. Each key enrols once, so a statement is worth nothing a second time. */
  static statement(of: { address: string; jkt: string; delivery: string; server: string }): Buffer {
    const { address, jkt, delivery, server } = of;
    return Buffer.from(canonicalJson({ v: 1, use: 'ekms-registered-device', address, jkt, delivery, server }));
  }

  /** Rejects with `device-unregistered`; undefined where policy asks for no registration. */
  async require(
    app: AppActor,
    claim: RegistrationClaim | undefined,
    of: { address: string; jkt: string; delivery: string },
  ): Promise<Registration | undefined> {
    if (!this.isAsked) return undefined;
    return this.#orRefused(app, of.address, async () => {
      const found = await this.#claimed(claim, of);
      return typeof found === 'string' ? found : ((await this.#fault(this.storage, found, of.address)) ?? found);
    });
  }

  /** As `require`, when an enrolment that was asked for is answered: the list, the policy and the machine's other device may have changed. */
  async requireStill(app: AppActor, id: string, given: Registration | null, mac: Buffer | null, address: string): Promise<void> {
    if (!this.isAsked) return;
    await this.#orRefused(app, address, async () => {
      if (!given) return 'missing';
      if (!mac || !this.seal.holds('enrolments', sealed(id, given), mac)) return 'forged';
      return (await this.#fault(this.storage, given, address)) ?? given;
    });
  }

  /** What keeps a registration to its enrolment's row. */
  mac(id: string, registration: Registration): Buffer {
    return this.seal.mac('enrolments', sealed(id, registration));
  }

  /** Says, in the unit that adds the device, that it is this machine. Rejects with `device-unregistered` when another came first. */
  async take(unit: Unit, device: string, registration: Registration, address: string): Promise<void> {
    if (await this.#fault(unit, registration, address)) throw unregistered();
    await unit.run('INSERT INTO device_registrations (device, source, subject) VALUES (?, ?, ?)', [
      device,
      registration.source,
      registration.subject,
    ]);
  }

  /** Adds to the list, or gives a machine to another person. All or none. Rejects with `identifier-malformed` or the address's own faults. */
  async add(entries: readonly RegistrationEntry[], by: AuditActor): Promise<{ added: number }> {
    const rows = entries.map((entry) => ({
      identifier: normalised(entry.identifier),
      address: parseAddress(entry.address).key,
      added: this.clock.now().getTime(),
    }));
    await this.storage.write(async (unit) => {
      for (const row of rows) {
        await unit.run(
          `INSERT INTO registered_devices (identifier, address, added, mac) VALUES (?, ?, ?, ?)
           ON CONFLICT (identifier) DO UPDATE SET address = excluded.address, added = excluded.added, mac = excluded.mac`,
          [row.identifier, row.address, row.added, this.seal.mac('registered_devices', row)],
        );
        await this.audit.append(unit, {
          action: 'registration.add',
          outcome: 'done',
          actor: by,
          personal: { identifier: row.identifier, address: row.address },
        });
      }
    });
    return { added: rows.length };
  }

  /** Takes a machine from the list; with `devices`, what enrolled by it ends too. Rejects with `registration-unknown`. */
  async remove(text: string, devices: boolean, by: AuditActor): Promise<{ devices: number }> {
    const identifier = normalised(text);
    const registration = { source: 'list', subject: identifier } as const;
    let ended = 0;
    const remove = (unit: Unit) => this.#removeRow(unit, identifier, devices, by);
    // The devices first: cut off in between, this is asked for again. One that comes in meanwhile ends too.
    do
      for (const { id } of devices ? await this.#active(this.storage, registration) : []) {
        await this.registry.end(id, 'revoked', by);
        ended += 1;
      }
    while (!(await this.storage.write(remove)));
    return { devices: ended };
  }

  /** False, and nothing done, where a device that was to end has come in by it. */
  async #removeRow(unit: Unit, identifier: string, devices: boolean, by: AuditActor): Promise<boolean> {
    if (devices && (await this.#active(unit, { source: 'list', subject: identifier })).length > 0) return false;
    if ((await unit.run('DELETE FROM registered_devices WHERE identifier = ?', [identifier])) === 0)
      throw new Fault('not-found', 'registration-unknown', 'no machine of this identifier is registered');
    await this.audit.append(unit, {
      action: 'registration.remove',
      outcome: 'done',
      actor: by,
      facts: { devices },
      personal: { identifier },
    });
    return true;
  }

  /** By identifier; `device` is the one that came in by it and has not ended. A row that was not sealed as it stands is left out: it registers nothing. */
  async list(): Promise<{ identifier: string; address: string; added: number; device: string | null }[]> {
    const rows = await this.storage.all<ListRow & { device: string | null }>(
      `SELECT r.identifier, r.address, r.added, r.mac, (SELECT min(d.id) FROM device_registrations u JOIN devices d ON d.id = u.device
         WHERE u.subject = r.identifier AND u.source = 'list' AND d.state <> 'revoked') AS device FROM registered_devices r ORDER BY r.identifier`,
    );
    return rows.filter((row) => this.#isGenuine(row)).map((row) => ({ ...plain(row), device: row.device }));
  }

  /** What the claim itself says, before the database is asked. */
  async #claimed(
    claim: RegistrationClaim | undefined,
    of: { address: string; jkt: string; delivery: string },
  ): Promise<Registration | Rule> {
    if (!claim) return 'missing';
    if ('identifier' in claim)
      return IDENTIFIER.test(claim.identifier) ? { source: 'list', subject: claim.identifier.toUpperCase() } : 'unknown';
    const managed = judgeManagedDevice(
      claim.certificate,
      this.settings.authorities,
      of.address,
      this.clock.now(),
      await this.settings.revocations?.current(),
    );
    if (typeof managed === 'string') return managed;
    const statement = RegisteredDevices.statement({ ...of, server: this.settings.server });
    if (!managed.holds(statement, claim.signature)) return 'proof-wrong';
    return { source: 'mdm', subject: base64url(sha256(canonicalJson([base64url(sha256(managed.spki)), of.address]))) };
  }

  /** Both questions are asked whatever the first says. */
  async #fault(reader: Reader, registration: Registration, address: string): Promise<Rule | undefined> {
    const row = await reader.one<ListRow>('SELECT identifier, address, added, mac FROM registered_devices WHERE identifier = ?', [
      registration.subject,
    ]);
    const active = await this.#active(reader, registration);
    if (registration.source === 'list') {
      if (!row) return 'unknown';
      if (!this.#isGenuine(row)) return 'forged';
      if (row.address !== address) return 'other-person';
    }
    return active.length > 0 ? 'in-use' : undefined;
  }

  #active(reader: Reader, { source, subject }: Registration): Promise<{ id: string }[]> {
    return reader.all<{ id: string }>(
      "SELECT d.id FROM device_registrations u JOIN devices d ON d.id = u.device WHERE u.subject = ? AND u.source = ? AND d.state <> 'revoked'",
      [subject, source],
    );
  }

  async #orRefused(app: AppActor, address: string, judge: () => Promise<Registration | Rule>): Promise<Registration> {
    let rule: Rule | undefined;
    const attempt = () =>
      ({
        action: 'registration.require',
        actor: auditActor(app),
        request: app.request.id,
        ...(rule ? { facts: { rule } } : {}),
        personal: { address, network: app.request.network },
      }) as const;
    return orRefused({ storage: this.storage, audit: this.audit }, attempt, async () => {
      const judged = await judge();
      if (typeof judged !== 'string') return judged;
      rule = judged;
      throw unregistered();
    });
  }

  #isGenuine(row: ListRow): boolean {
    return this.seal.holds('registered_devices', plain(row), row.mac);
  }
}

interface ListRow {
  identifier: string;
  address: string;
  added: number;
  mac: Buffer;
}

const sealed = (id: string, { source, subject }: Registration): { [column: string]: Json } => ({
  id,
  registration: `${source} ${subject}`,
});

const unregistered = () =>
  new Fault(
    'forbidden',
    'device-unregistered',
    'this machine is not registered for this address, or another device holds its registration: ask your administrator',
  );

function normalised(identifier: string): string {
  const text = identifier.trim();
  if (!IDENTIFIER.test(text))
    throw new Fault(
      'malformed',
      'identifier-malformed',
      'an identifier is up to 64 letters, digits and . _ : -, as the inventory names the machine',
    );
  return text.toUpperCase();
}
