import { type AuditEvent, base64url, canonicalJson, type Json, schemaVersion, sha256 } from '../foundation/index.js';

/** What the leaf covers, as parsed (docs/formats/audit-entry.md). Absent members are absent, never null. */
export interface EntryBody {
  /** Version of the action's schema. */
  v: number;
  /** Leaf index, decimal: 64-bit numbers travel as strings. */
  index: string;
  /** ISO 8601, UTC, milliseconds. Never before the entry before. */
  time: string;
  /** Version of the network policy in force, decimal; absent while only ekms.yaml has one. */
  policy?: string;
  /** The policy's network that the request came from; `elsewhere` where it is in none. */
  from?: string;
  action: string;
  outcome: string;
  reason?: string;
  actor: { kind: string; id?: string };
  employee?: string;
  device?: string;
  key?: string;
  /** How often this key has been named, this entry included; decimal. */
  use?: string;
  /** Leaf hash of the entry that named this key before, base64url; absent at the first. */
  previous?: string;
  subject?: string;
  request?: string;
  facts?: Record<string, string | number | boolean>;
  /** SHA-256(salt ‖ value), base64url, by name. */
  personal?: Record<string, string>;
}

export interface PersonalValue {
  name: string;
  salt: Buffer;
  value: string;
}

/** C2SP tlog-tiles writes an entry's length in 16 bits. */
export const ENTRY_BYTES = 65_535;

const LEAF = Buffer.of(0);

/** RFC 9162 §2.1.1: SHA-256(0x00 ‖ entry). */
export const leafHash = (body: string): Buffer => sha256(LEAF, body);

export const personalDigest = ({ salt, value }: Pick<PersonalValue, 'salt' | 'value'>): string => base64url(sha256(salt, value));

/** Place in the log and, for an entry about a key, in that key's chain. */
export interface Place {
  index: number;
  time: number;
  use?: { count: number; previous?: Uint8Array | undefined } | undefined;
  /** Version of the network policy; 0 for none. */
  policy?: number;
  from?: string | undefined;
}

/** The canonical bytes of an entry, as text. */
export function writeEntry(event: AuditEvent, place: Place, personal: readonly PersonalValue[]): string {
  const { action, outcome, actor } = event;
  const body: Record<string, Json> = {
    v: schemaVersion(action),
    index: String(place.index),
    time: new Date(place.time).toISOString(),
    action,
    outcome,
  };
  body['actor'] = actor.id === undefined ? { kind: actor.kind } : { kind: actor.kind, id: actor.id };
  for (const name of ['reason', 'employee', 'device', 'key', 'subject', 'request'] as const) {
    const value = event[name];
    if (value !== undefined) body[name] = value;
  }
  if (place.policy) body['policy'] = String(place.policy);
  if (place.from !== undefined) body['from'] = place.from;
  if (place.use) body['use'] = String(place.use.count);
  if (place.use?.previous) body['previous'] = base64url(place.use.previous);
  if (event.facts) body['facts'] = Object.fromEntries(Object.entries(event.facts).map(([name, fact]) => [name, plain(fact)]));
  if (personal.length > 0) body['personal'] = Object.fromEntries(personal.map((one) => [one.name, personalDigest(one)]));
  return canonicalJson(body);
}

/** RFC 8785 §3.2.2.3 and its appendix D: whole numbers that a double cannot hold exactly travel as strings. */
const plain = (fact: string | number | boolean): Json =>
  typeof fact === 'number' && Number.isInteger(fact) && !Number.isSafeInteger(fact) ? BigInt(fact).toString() : fact;
