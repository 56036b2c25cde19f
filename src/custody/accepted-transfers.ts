import { HASH_BYTES, hashOver, inclusionRecipe, proofOf } from '../codec/merkle/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  newId,
  orRefused,
  parseAddress,
  parsedJson,
  type Storage,
  sha256,
} from '../foundation/index.js';
import {
  type AcceptedLine,
  type Authorities,
  acceptedLeaf,
  applianceName,
  isApproval,
  TRANSFER_DAYS,
  type TransferAcceptance,
  transferAcceptance,
  transferAcceptanceBytes,
} from '../tokens/index.js';
import type { RecoveryAgentRegister } from './recovery-agents.js';
import { signaturesOf } from './recovery-signatures.js';
import { type TransferLine, type TransferredKey, transferLine } from './transfer-shapes.js';

/** What somebody asks the agents to accept: this file, of this sender, for these owners. Digests are SHA-256, base64url. */
export interface Incoming {
  /** Of the file. */
  file: string;
  /** Of the sender's root certificate (DER). */
  root: string;
  /** Who somebody is there, and here: address or employee id. */
  owners: readonly (readonly [string, string])[];
}

export interface FiledAcceptance {
  acceptance: string;
  /** What each agent signs, base64. */
  sign: string;
  request: TransferAcceptance;
  /** Agents in force who have signed. */
  approvals: number;
  quorum: number;
}

/** Whose each line becomes, as a file that the caller verified has them. */
export interface IncomingLines {
  /** Leaf of each line, one behind the other (`acceptedLeaf`). */
  leaves: Buffer;
  /** Addresses and employee ids that decide it. */
  named: ReadonlySet<string>;
}

interface Row {
  id: string;
  request: string;
  leaves: Buffer;
  owners: string;
}

interface Kept {
  id: string;
  acceptance: TransferAcceptance;
  owners: ReadonlyMap<string, string>;
  /** Where each leaf stands. */
  places: ReadonlyMap<string, number>;
  /** Hashes of whole subtrees by height, from the leaves up. */
  levels: readonly (readonly Uint8Array[])[];
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  agents: RecoveryAgentRegister;
  clock: Clock;
  authorities: Pick<Authorities, 'root'>;
}

/**
 * Transfers from other appliances that wait for the recovery agents here, or were accepted by them (docs/formats/transfer.md). What is kept here is for finding and
 * showing: the token process looks at the signatures, and at whose each line becomes, itself.
 */
export class AcceptedTransfers {
  #last: Kept | undefined;

  constructor(private readonly parts: Parts) {}

  /** The paper that agents sign, or have signed, for just this; undefined where there is none, or its time is over. */
  async standing(what: Incoming): Promise<FiledAcceptance | undefined> {
    const row = await this.parts.storage.one<{ request: string }>(
      'SELECT t.request FROM transfer_acceptances a JOIN transfers t ON t.id = a.id WHERE a.name = ? AND t.ended IS NULL AND t.expires > ? ORDER BY t.created DESC LIMIT 1',
      [nameOf(what), this.parts.clock.now().getTime()],
    );
    return row && this.#filed(acceptanceOf(row));
  }

  /** Rejects with `no-recovery-agents`, `transfer-malformed`. */
  async file(what: Incoming, { leaves, named }: IncomingLines, by: AuditActor): Promise<FiledAcceptance> {
    const { storage, audit, agents, clock, authorities } = this.parts;
    return orRefused({ storage, audit }, { action: 'transfer.accept', actor: by }, async () => {
      await agents.inForce();
      const now = clock.now().getTime();
      const mailboxes = await this.#mailboxesAmong(named);
      const known = transferAcceptance.safeParse({
        ...{ v: 1, acceptance: newId(), appliance: applianceName(authorities.root), file: what.file, root: what.root },
        ...{ owners: ownersDigest(what), keys: leaves.length / HASH_BYTES, tree: base64url(hashOver(sha256, hashesIn(leaves))) },
        ...(mailboxes.length > 0 ? { mailboxes } : {}),
        expires: now + TRANSFER_DAYS * 86_400_000,
      });
      if (!known.success)
        throw new Fault('malformed', 'transfer-malformed', `${known.error.issues[0]?.path.join('.')}: ${known.error.issues[0]?.message}`);
      const request = known.data;
      const { acceptance: id, expires } = request;
      await storage.write(async (unit) => {
        await unit.run('INSERT INTO transfers (id, request, recipient, created, expires) VALUES (?, ?, ?, ?, ?)', [
          ...[id, JSON.stringify(request), Buffer.alloc(0), now, expires],
        ]);
        await unit.run('INSERT INTO transfer_acceptances (id, name, leaves, owners) VALUES (?, ?, ?, ?)', [
          ...[id, nameOf(what), leaves, JSON.stringify(what.owners)],
        ]);
        await audit.append(unit, {
          ...{ action: 'transfer.accept', outcome: 'done', actor: by, subject: id },
          facts: {
            ...{ request: base64url(sha256(transferAcceptanceBytes(request))), file: what.file, root: what.root },
            ...{ keys: request.keys, people: what.owners.length },
          },
        });
      });
      return this.#filed(request);
    });
  }

  /** A key of such a file, with what the token process wants to see. Throws `transfer-not-accepted`, `body-malformed`, and what the sending token said of it. */
  async keyOf(id: string, line: string): Promise<{ key: TransferredKey; accepted: AcceptedLine }> {
    const { storage, agents } = this.parts;
    const kept = await this.#find(id);
    const key = parsedJson(transferLine, Buffer.from(line));
    if ('problem' in key) throw new Fault('not-found', key.problem, 'the sending token did not give it');
    const owner = ownerOf(key, kept.owners);
    const index = kept.places.get(base64url(acceptedLeaf(line, owner)));
    if (index === undefined) throw notAccepted('this is no line of the file that was accepted, or not for these owners');
    const { sealed } = await agents.inForce();
    const proof = await proofOf(sha256, inclusionRecipe(index, kept.acceptance.keys), async ({ height, index: at }) => {
      const hash = kept.levels[height]?.[at];
      if (!hash) throw notAccepted('the rows of this acceptance were changed since');
      return hash;
    });
    return {
      key,
      accepted: {
        ...{ acceptance: kept.acceptance, approvals: await signaturesOf(storage, id), line, index, proof },
        ...(owner === undefined ? {} : { owner }),
        ...(sealed ? { agents: sealed } : {}),
      },
    };
  }

  async #filed(request: TransferAcceptance): Promise<FiledAcceptance> {
    const { agents } = await this.parts.agents.inForce();
    const signed = transferAcceptanceBytes(request);
    const by = (await signaturesOf(this.parts.storage, request.acceptance)).filter((approval) => isApproval(signed, approval, agents));
    return {
      ...{ acceptance: request.acceptance, sign: signed.toString('base64'), request },
      ...{ approvals: new Set(by.map(({ agent }) => agent)).size, quorum: Math.max(2, agents.quorum) },
    };
  }

  async #mailboxesAmong(named: ReadonlySet<string>): Promise<string[]> {
    const rows = await this.parts.storage.all<{ address: string; employee: string }>(
      "SELECT b.address, b.employee FROM employees e JOIN bindings b ON b.employee = e.id WHERE e.kind = 'mailbox' AND b.to_time IS NULL ORDER BY b.address",
    );
    if (rows.length === 0) return [];
    const known = new Set([...named].map(addressKeyOf));
    return rows.filter(({ address, employee }) => known.has(address) || known.has(employee)).map(({ address }) => address);
  }

  async #find(id: string): Promise<Kept> {
    if (this.#last?.id === id) return this.#last;
    const row = await this.parts.storage.one<Row>(
      'SELECT t.id, t.request, a.leaves, a.owners FROM transfer_acceptances a JOIN transfers t ON t.id = a.id WHERE a.id = ?',
      [id],
    );
    if (!row) throw notAccepted('nobody asked the recovery agents to accept this transfer here, or for other owners');
    const leaves = hashesIn(row.leaves);
    const levels: (readonly Uint8Array[])[] = [leaves];
    for (let below = leaves; below.length > 1; ) {
      const pairs = below;
      below = Array.from({ length: Math.floor(pairs.length / 2) }, (_, n) => hashOver(sha256, pairs.slice(2 * n, 2 * n + 2)));
      levels.push(below);
    }
    this.#last = {
      ...{ id, acceptance: acceptanceOf(row), owners: new Map(JSON.parse(row.owners) as [string, string][]), levels },
      places: new Map(leaves.map((leaf, n) => [base64url(leaf), n])),
    };
    return this.#last;
  }
}

/** As the list of owners says; without it, whoever has one of its addresses here. */
export const ownerOf = ({ employee, addresses }: TransferredKey, owners: ReadonlyMap<string, string>): string | undefined =>
  owners.get(employee) ?? addresses.map((address) => owners.get(address)).find((found) => found !== undefined);

/** The tree that agents accept, of the lines of a file in their order. */
export class LinesWithOwners {
  readonly #leaves: Uint8Array[] = [];
  readonly #named = new Set<string>();

  constructor(private readonly owners: ReadonlyMap<string, string>) {}

  add(text: string, line: TransferLine): void {
    const owner = 'problem' in line ? undefined : ownerOf(line, this.owners);
    this.#leaves.push(acceptedLeaf(text, owner));
    if (owner !== undefined) this.#named.add(owner);
    else if (!('problem' in line)) for (const address of line.addresses) this.#named.add(address);
  }

  get all(): IncomingLines {
    return { leaves: Buffer.concat(this.#leaves), named: this.#named };
  }
}

const pairsOf = ({ owners }: Pick<Incoming, 'owners'>) => owners.map(([there, here]) => [there, here]);
const ownersDigest = (what: Incoming): string => base64url(sha256(canonicalJson(pairsOf(what))));
const nameOf = ({ file, root, owners }: Incoming): string => base64url(sha256(canonicalJson({ file, root, owners: pairsOf({ owners }) })));
const acceptanceOf = (row: { request: string }) => JSON.parse(row.request) as TransferAcceptance; // the token parses and verifies it; a changed one has no signatures

function hashesIn(bytes: Buffer): Uint8Array[] {
  return Array.from({ length: bytes.length / HASH_BYTES }, (_, n) => bytes.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES));
}

function addressKeyOf(text: string): string {
  try {
    return parseAddress(text).key;
  } catch {
    return text; // an employee id, or nobody's here
  }
}

const notAccepted = (why: string) => new Fault('forbidden', 'transfer-not-accepted', why);
