import type { RowSeal } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  parsedJson,
  type Storage,
  sha256,
} from '../foundation/index.js';
import { type TransferredKey, transferLine } from './transfer-shapes.js';

/** Bytes of SHA-256. */
const DIGEST = 32;

/** What two persons accept: this file, of this sender, for these owners. Digests are SHA-256, base64url. */
export interface Acceptance {
  /** Of the file. */
  file: string;
  /** Of the sender's root certificate (DER). */
  root: string;
  /** Who somebody is there, and here: address or employee id. */
  owners: readonly (readonly [string, string])[];
}

/** Its name: whoever changes anything in it has accepted something else. */
export const acceptanceId = ({ file, root, owners }: Acceptance): string =>
  base64url(sha256(canonicalJson({ file, root, owners: owners.map(([there, here]) => [there, here]) })));

interface Row {
  id: string;
  lines: Buffer;
  owners: string;
  mac: Buffer;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  seal: RowSeal;
  clock: Clock;
}

/**
 * Transfers from another appliance that two persons accepted here, and so each line that may come in and whose it becomes: nobody alone says either. Rows are
 * sealed, so that whoever writes the database accepts nothing.
 */
export class AcceptedTransfers {
  #last: { id: string; lines: ReadonlySet<string>; owners: ReadonlyMap<string, string> } | undefined;

  constructor(private readonly parts: Parts) {}

  /** @param lines SHA-256 of each line of a key, one behind the other, of a file whose signature the caller verified */
  async accept(what: Acceptance, lines: Buffer, by: AuditActor): Promise<string> {
    const { storage, audit, seal, clock } = this.parts;
    const id = acceptanceId(what);
    const owners = JSON.stringify(what.owners);
    const mac = seal.mac('transfer_acceptances', sealed({ id, lines, owners }));
    await storage.write(async (unit) => {
      await unit.run(
        'INSERT INTO transfer_acceptances (id, lines, owners, mac, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING',
        [id, lines, owners, mac, clock.now().getTime()],
      );
      await audit.append(unit, {
        ...{ action: 'transfer.accept', outcome: 'done', actor: by, subject: id },
        facts: { file: what.file, root: what.root, keys: lines.length / DIGEST, people: what.owners.length },
      });
    });
    return id;
  }

  async isAccepted(id: string): Promise<boolean> {
    return (await this.#find(id)) !== undefined;
  }

  /** A key of such a file, and whose it becomes where that was said. Throws `transfer-not-accepted`, `body-malformed`. */
  async keyOf(id: string, line: string): Promise<{ key: TransferredKey; owner?: string }> {
    const accepted = await this.#find(id);
    if (!accepted) throw notAccepted('nobody accepted this transfer here, or for other owners');
    if (!accepted.lines.has(base64url(sha256(line)))) throw notAccepted('this is no line of the file that was accepted');
    const key = parsedJson(transferLine, Buffer.from(line));
    if ('problem' in key) throw new Fault('not-found', key.problem, 'the sending token did not give it');
    const { owners } = accepted;
    const owner = ownerOf(key, owners);
    return { key, ...(owner === undefined ? {} : { owner }) };
  }

  async #find(id: string) {
    if (this.#last?.id === id) return this.#last;
    const row = await this.parts.storage.one<Row>('SELECT id, lines, owners, mac FROM transfer_acceptances WHERE id = ?', [id]);
    if (!row) return undefined;
    if (!this.parts.seal.holds('transfer_acceptances', sealed(row), row.mac))
      throw notAccepted('the row of this acceptance was not written by this appliance, or was changed since');
    const lines = new Set<string>();
    for (let at = 0; at < row.lines.length; at += DIGEST) lines.add(base64url(row.lines.subarray(at, at + DIGEST)));
    this.#last = { id, lines, owners: new Map(JSON.parse(row.owners) as [string, string][]) }; // only `accept` writes this column, and the MAC covers it
    return this.#last;
  }
}

/** As the list of owners says; without it, whoever has one of its addresses here. */
export const ownerOf = ({ employee, addresses }: TransferredKey, owners: ReadonlyMap<string, string>): string | undefined =>
  owners.get(employee) ?? addresses.map((address) => owners.get(address)).find((found) => found !== undefined);

const sealed = ({ id, lines, owners }: Omit<Row, 'mac'>) => ({ id, owners, lines: base64url(sha256(lines)) });
const notAccepted = (why: string) => new Fault('forbidden', 'transfer-not-accepted', why);
