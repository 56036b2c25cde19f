import { X509Certificate } from 'node:crypto';
import type { DocumentReader, Employees } from '../access/index.js';
import type { CertificateDirectory, KeyIssuance, KeyReplacement } from '../certificates/index.js';
import {
  type Address,
  type AuditActor,
  type AuditLog,
  base64url,
  Fault,
  isFault,
  orRefused,
  type Storage,
  sha256,
} from '../foundation/index.js';
import { KeyStore } from '../keys/index.js';
import type { Token } from '../tokens/index.js';
import type { RecoveryAgentRegister } from './recovery-agents.js';

/** The organisation's reader of documents as it stands. */
export interface RecoveryReader {
  employee: string;
  address: string;
  /** DER; undefined while its key is waited for, or its certificate has ended. */
  certificate: Buffer | undefined;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  employees: Employees;
  issuance: KeyIssuance;
  replacement: KeyReplacement;
  directory: CertificateDirectory;
  agents: RecoveryAgentRegister;
  reader: DocumentReader;
  /** Mail domains that are served here. */
  domains: readonly string[];
}

/**
 * The organisation as a reader of every document: an employee without a device, whose keys are made in the token like anybody's and are under `quorum`, so that
 * the token opens something with them for an approved recovery case only (docs/adr/0042). While it is on, nothing is encrypted without it.
 */
export class DocumentRecovery {
  readonly #keys = new KeyStore();
  /** Certificates, by digest, whose key the token has vouched for. */
  readonly #vouched = new Set<string>();

  constructor(private readonly parts: Parts) {}

  /** Rejects with `no-recovery-agents`, `domain-not-served`, `address-bound`, `document-recovery-on`. With an empty pool the key is pending. */
  async begin(address: Address, by: AuditActor): Promise<RecoveryReader> {
    const { storage, audit, employees, issuance, agents, domains, reader } = this.parts;
    const event = { action: 'pdf.recovery', actor: by, facts: { state: 'on' }, personal: { address: address.key } } as const;
    await orRefused({ storage, audit }, event, async () => {
      await agents.inForce(); // else nobody could ever open anything with it
      if (!domains.includes(address.domain))
        throw new Fault('forbidden', 'domain-not-served', 'this appliance does not serve mail addresses of this domain');
      if (await this.standing()) throw new Fault('conflict', 'document-recovery-on', 'there is a recovery reader of documents already');
      const binding = await employees.propose(address);
      const { employee } = binding.sealed.record;
      await storage.write(async (unit) => {
        if (await employees.bindingOf(address.key, unit))
          throw new Fault('conflict', 'address-bound', 'this address is bound to somebody already');
        await employees.insert(unit, binding, by, 'quorum');
        await reader.begin(unit, { employee, address: address.key });
        await issuance.wait(unit, employee);
        await audit.append(unit, { ...event, outcome: 'done', employee });
      });
    });
    await issuance.serveWaiting();
    const now = await this.standing();
    if (!now) throw new Fault('conflict', 'document-recovery-off', 'it was ended at the same time');
    return now;
  }

  /** No document is encrypted to it any more; what was stays open to recovery cases. Rejects with `document-recovery-off`. */
  async end(by: AuditActor): Promise<void> {
    const { storage, audit, employees, replacement, reader } = this.parts;
    const found = await this.standing().catch(async (error: unknown) => {
      if (!isFault(error, 'record-forged')) throw error;
      // What nobody named goes, and whoever was named is found by their keys.
      await storage.write((unit) => reader.end(unit));
      return this.standing();
    });
    if (!found) throw new Fault('conflict', 'document-recovery-off', 'there is no recovery reader of documents');
    const event = { action: 'pdf.recovery', actor: by, employee: found.employee, facts: { state: 'off' } } as const;
    await orRefused({ storage, audit }, event, async () => {
      // Cut off behind this it stays on, without an address, and nothing is encrypted: it is ended again.
      const binding = await employees.bindingOf(found.address);
      if (binding?.sealed.record.employee === found.employee) await replacement.releaseAddress(found.address, by, found.employee);
      await storage.write(async (unit) => {
        await reader.end(unit);
        await audit.append(unit, { ...event, outcome: 'done' });
      });
    });
  }

  /** Undefined while it is off. Rejects with `record-forged`. */
  async standing(): Promise<RecoveryReader | undefined> {
    const { reader, directory } = this.parts;
    const now = await reader.now();
    if (!now) return undefined;
    const [certificate] = await directory.ofEmployee(now.employee);
    return { ...now, certificate };
  }

  /**
   * The certificate that every document is encrypted to now, DER; undefined while it is off. The token vouches that nobody has its key alone: a row that names
   * somebody's own key is refused. Rejects with `document-recovery-missing`, `record-forged`.
   */
  async certificate(): Promise<Buffer | undefined> {
    const found = await this.standing();
    if (!found) return undefined;
    const { certificate, employee } = found;
    if (!certificate)
      throw new Fault(
        'unavailable',
        'document-recovery-missing',
        'documents are to be open to recovery, and there is no valid certificate for that at the moment',
        60,
      );
    const name = base64url(sha256(certificate));
    if (!this.#vouched.has(name)) {
      await this.#vouch(certificate, employee);
      this.#vouched.add(name);
    }
    return certificate;
  }

  /** Every certificate that a recovery case may open documents by, of now and of before, DER. */
  async everyCertificate(): Promise<Buffer[]> {
    const rows = await this.parts.storage.all<{ id: string }>(
      "SELECT id FROM employees WHERE mode = 'quorum' UNION SELECT employee AS id FROM keys WHERE mode = 'quorum'",
    );
    return (await Promise.all(rows.map(({ id }) => this.parts.directory.everOf(id)))).flat();
  }

  async #vouch(certificate: Buffer, employee: string): Promise<void> {
    const { storage, token } = this.parts;
    const spki = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
    const row = await storage.one<{ id: string }>('SELECT id FROM keys WHERE public_key_digest = ?', [sha256(spki)]);
    const key = row && (await this.#keys.find(storage, row.id));
    const { record } = key?.sealed ?? {};
    if (!key || record?.mode !== 'quorum' || record.employee !== employee || record.publicKey !== base64url(sha256(spki)))
      throw new Fault('forbidden', 'record-forged', 'the key of the recovery reader of documents is not one that only a quorum may use');
    await token.raise(key.sealed);
  }
}
