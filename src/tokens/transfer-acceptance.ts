import { z } from 'zod';
import { hashLeaf, verifyInclusion } from '../codec/merkle/index.js';
import { base64url, canonicalJson, Fault, fromBase64, isId, type Json, parseAddress, parsedJson, sha256 } from '../foundation/index.js';
import type { AgentsRecord, BindingRecord, Sealed } from './records.js';
import type { RecoveryApproval } from './recovery.js';

const id = z.string().refine(isId);
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const address = z.string().max(254);

/**
 * What recovery agents of the receiver approve, word for word (docs/formats/transfer.md): this file of another appliance, of this sender, and whose each of its keys
 * becomes here. Digests are SHA-256, base64url.
 */
export const transferAcceptance = z.strictObject({
  v: z.literal(1),
  acceptance: id,
  /** Of this appliance's root certificate: agents of two appliances may have the same keys. */
  appliance: digest,
  /** Of the file. */
  file: digest,
  /** Of the sender's root certificate (DER). */
  root: digest,
  /** Of the list of owners: pairs of who there and who here, RFC 8785. */
  owners: digest,
  /** Lines of the file between its first and its last, and the head of the tree (RFC 9162) over them with their owners: `acceptedLeaf`. */
  keys: z.int().nonnegative(),
  tree: digest,
  /** Addresses of shared mailboxes here whose members read with what becomes theirs; nothing else is given to several people. */
  mailboxes: z.array(address).min(1).max(200).exactOptional(),
  expires: z.int().positive(),
});
export type TransferAcceptance = z.output<typeof transferAcceptance>;

export const transferAcceptanceBytes = (of: TransferAcceptance): Buffer =>
  Buffer.from(`EKMS transfer acceptance v1\n${canonicalJson({ ...of } as unknown as Json)}`); // every member is JSON

/** Leaf of a line of a key, as its file has it, and whose the list of owners says it becomes: an address or employee id here; without it, whoever has one of its addresses. */
export const acceptedLeaf = (line: string, owner: string | undefined): Uint8Array =>
  hashLeaf(sha256, Buffer.from(canonicalJson({ line: base64url(sha256(line)), ...(owner === undefined ? {} : { owner }) })));

/** A line, that it was accepted, and that here is whom it was accepted for. */
export interface AcceptedLine {
  acceptance: TransferAcceptance;
  approvals: readonly RecoveryApproval[];
  agents?: Sealed<AgentsRecord>;
  line: string;
  owner?: string;
  /** Where it stands in the tree. */
  index: number;
  proof: readonly Uint8Array[];
  /** Of the address that it becomes somebody's by; needs not be where `owner` is an employee id, but for a shared mailbox. */
  binding?: Sealed<BindingRecord>;
}

/** What the receiver believes of a line; all else in it is for people. */
const sentKey = z.object({
  publicKey: z.base64().max(4_000),
  content: z.base64().max(20_000),
  state: z.enum(['active', 'suspended', 'deactivated', 'compromised', 'destroyed']),
  quorum: z.literal(true).optional(),
  addresses: z.array(address).max(200),
});
export type SentKey = z.output<typeof sentKey>;

/** The key of a line that stands in what was accepted, for that owner. Throws `transfer-not-accepted`; `body-malformed` where it is no line of a key. */
export function acceptedKey({ acceptance, line, owner, index, proof }: AcceptedLine): SentKey {
  const root = fromBase64(acceptance.tree, 'base64url') ?? Buffer.alloc(0);
  if (!verifyInclusion(sha256, index, acceptedLeaf(line, owner), { size: acceptance.keys, root }, proof))
    throw notAccepted('this is no line of the file that was accepted, or it was accepted for another owner');
  return parsedJson(sentKey, Buffer.from(line));
}

export interface ToWhom {
  employee: string;
  shared?: true | undefined;
  /** The genuine record of an open binding of theirs. */
  binding: BindingRecord | undefined;
}

/** Throws `transfer-not-accepted` unless it is this person, or mailbox, that the key was accepted for. */
export function requireOwner({ acceptance, owner }: AcceptedLine, { addresses }: SentKey, { employee, shared, binding }: ToWhom): void {
  const isTheirs = binding?.employee === employee && binding.to === null;
  const named = owner === undefined ? addresses : [owner];
  const byId = owner !== undefined && isId(owner);
  if (byId ? owner !== employee : !(isTheirs && hasAddress(named, binding.address)))
    throw notAccepted('this key was accepted for somebody else');
  if (shared && !(isTheirs && hasAddress(acceptance.mailboxes ?? [], binding.address)))
    throw notAccepted(
      `it was not accepted that several people read with this key: end that acceptance (ekms transfer end ${acceptance.acceptance}) and ask for it anew`,
    );
}

function hasAddress(named: readonly string[], key: string): boolean {
  return named.some((text) => {
    try {
      return parseAddress(text).key === key;
    } catch {
      return false; // as one of nobody here
    }
  });
}

const notAccepted = (why: string) => new Fault('forbidden', 'transfer-not-accepted', why);
