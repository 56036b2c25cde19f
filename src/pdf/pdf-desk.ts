import { auditActor, type Budgets, type DeviceActor, type StaffActor } from '../access/index.js';
import type { CertificateDirectory } from '../certificates/index.js';
import type { Components, Warning } from '../codec/pdf/index.js';
import {
  type AuditAttempt,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  orRefused,
  type Receipt,
  type Storage,
} from '../foundation/index.js';
import { PrivateFile } from './private-file.js';
import type { PdfReaders } from './readers.js';
import { type Allowed, type Asked, groupsOf, requireFew, resolved, type Standing, standingOf } from './recipients.js';
import type { PdfWorkers } from './workers.js';

/** The organisation as a reader of every document. Custody fills this port. */
export abstract class RecoveryReader {
  /** What documents are encrypted to besides, DER; undefined while that is off. Rejects where it is on and cannot be done. */
  abstract certificate(): Promise<Buffer | undefined>;
  /** Of now and of before, DER. */
  abstract everyCertificate(): Promise<Buffer[]>;
}

export interface PdfSettings {
  /** A folder for this user alone, for files without a name. */
  folder: string;
  /** Bytes of one document. */
  most: number;
  /** A certificate of the organisation whose key lies elsewhere, DER: everything is encrypted to it besides. */
  recovery: Buffer | undefined;
  /** Addresses by the name of their group. */
  groups: Readonly<Record<string, readonly string[]>>;
  /** Whether documents that are encrypted already are taken with the key that a reader's device opened. */
  encrypted: 'open' | 'refuse';
}

export type Sender = DeviceActor | StaffActor;

/** An uploaded document in its private file. */
export interface Upload {
  file: PrivateFile;
  digest: Buffer;
  /** Where it is encrypted already: the content-encryption key that the sender's device opened. */
  key?: Buffer | undefined;
}

export interface Wish {
  people: readonly Asked[];
  /** Certificates from elsewhere, DER, and what their holders may do. */
  foreign: readonly Buffer[];
  allowed: Allowed;
  components: Components;
  signatures: 'refuse' | 'break';
}

export interface Encrypted {
  file: PrivateFile;
  bytes: number;
  pages: number;
  warnings: Warning[];
  receipt: Receipt;
}

/** Encrypts documents to people for those who have no client. Nothing of a document is kept, and the log learns digests, recipients and the number of pages. */
export class PdfDesk {
  constructor(
    private readonly parts: { storage: Storage; audit: AuditLog; budgets: Budgets },
    private readonly directory: CertificateDirectory,
    private readonly workers: Pick<PdfWorkers, 'encrypt' | 'readers'>,
    private readonly organisation: RecoveryReader,
    private readonly clock: Clock,
    readonly settings: PdfSettings,
  ) {}

  /** Charges one document to its sender, before anything is done for it. Rejects with `budget-exceeded`. */
  admit(by: Sender): Promise<void> {
    return this.parts.budgets.take(this.parts.budgets.ofDocument(by));
  }

  /** How each name stands, groups as their members. Rejects with `group-unknown`, and with `recipients-too-many` before anybody is looked up. */
  async standings(names: readonly string[]): Promise<Standing[]> {
    const addresses = this.membersOf(names);
    requireFew(addresses);
    return Promise.all(addresses.map((address) => standingOf(this.directory, address)));
  }

  /** Addresses, with `group:NAME` as all of its members. */
  membersOf(names: readonly string[]): string[] {
    return names.flatMap((name) => {
      if (!name.startsWith('group:')) return [name];
      const { groups } = this.settings;
      const group = name.slice('group:'.length);
      if (!Object.hasOwn(groups, group)) throw new Fault('not-found', 'group-unknown', `there is no group "${group}"`);
      return [...(groups[group] ?? [])];
    });
  }

  /** The caller closes the result's file. Its entry is in the log before anybody has it. */
  async encrypt(by: Sender, upload: Upload, wish: Wish): Promise<Encrypted> {
    const attempt: AuditAttempt<'pdf.encrypt'> = {
      action: 'pdf.encrypt',
      actor: auditActor(by),
      ...(by.kind === 'device' ? { employee: by.employee, device: by.id } : {}),
      request: by.request.id,
      facts: {
        source: base64url(upload.digest),
        recipients: wish.people.length + wish.foreign.length,
        bytes: upload.file.size,
      },
      personal: { network: by.request.network, recipients: wish.people.map(({ address }) => address).join(' ') },
    };
    return orRefused(this.parts, attempt, async () => {
      const groups = await this.#readers(by, wish);
      const opening = await this.#opening(by, upload.key);
      const output = PrivateFile.create(this.settings.folder, upload.file.size);
      try {
        const { pages, warnings, bytes, digest, opened } = await this.workers.encrypt({
          input: upload.file.descriptor,
          size: upload.file.size,
          output: output.descriptor,
          groups,
          form: { transport: 'pkcs1', cipher: 'aes-256-cbc' },
          components: wish.components,
          signatures: wish.signatures,
          opening,
        });
        const facts = { ...attempt.facts, result: base64url(digest), pages, ...(opened ? { opened } : {}) };
        const receipt = await this.parts.storage.write((unit) => this.parts.audit.append(unit, { ...attempt, facts, outcome: 'done' }));
        return { file: output, bytes, pages, warnings, receipt };
      } catch (error) {
        await output.close();
        throw error;
      }
    });
  }

  /**
   * The key of a document comes with it from a device of one of its readers, out of the person's own key there or by the token in remote mode. Nothing here can
   * open a document for a session alone (docs/adr/0041).
   */
  async #opening(by: Sender, key: Buffer | undefined) {
    if (!key || by.kind !== 'device' || this.settings.encrypted === 'refuse') return undefined;
    return { key, certificates: await this.directory.everOf(by.employee) };
  }

  /** The sender first, who may do everything; the organisation's recovery, where that is on; then who was named. */
  async #readers(by: Sender, wish: Wish) {
    const own = await (by.kind === 'device' ? this.directory.ofEmployee(by.employee) : this.directory.of(by.address));
    if (!own[0])
      throw new Fault(
        'conflict',
        'sender-without-key',
        'you have no valid encrypting certificate, and could not open the document yourself: enrol a device first',
      );
    const recovery = [await this.organisation.certificate(), this.settings.recovery].filter((one) => one !== undefined);
    return groupsOf([
      { certificate: own[0], allowed: 'owner' },
      ...recovery.map((certificate) => ({ certificate, allowed: 'owner' as const })),
      ...(await resolved(this.directory, wish.people)),
      ...wish.foreign.map((certificate) => ({ certificate, allowed: wish.allowed })),
    ]);
  }

  /** Who can open an uploaded document, by the document, and whom of them we know without telling who anybody is. */
  async readers(by: Sender, file: PrivateFile): Promise<PdfReaders> {
    const known = {
      you: by.kind === 'device' ? await this.directory.everOf(by.employee) : await this.directory.of(by.address),
      recovery: await this.#recoveryCertificates(),
    };
    return this.workers.readers({ input: file.descriptor, size: file.size, known });
  }

  /** What a device encrypts to besides, and by what it knows the organisation among a document's readers. */
  async recovery(): Promise<{ current: Buffer | undefined; every: Buffer[]; authority: Buffer }> {
    const current = await this.organisation.certificate();
    return { current, every: await this.#recoveryCertificates(), authority: await this.directory.issuerOf(current) };
  }

  async #recoveryCertificates(): Promise<Buffer[]> {
    const { recovery } = this.settings;
    return [...(await this.organisation.everyCertificate()), ...(recovery ? [recovery] : [])];
  }

  get now(): Date {
    return this.clock.now();
  }
}

/** Of a batch: what became of each document. */
export const failure = (error: unknown): { code: string; detail: string } => {
  if (isFault(error)) return { code: error.code, detail: error.message };
  throw error;
};
