import { hash } from 'node:crypto';
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

/** RFC 9162 §2.1.1: SHA-256(0x00 ‖ entry). */
export const leafHash = (body: string): Buffer => hash('sha256', `\0${body}`, 'buffer');

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

/** The canonical bytes of an entry, as text. Members are set in the order that the canonical form has, which makes writing it cheap. */
export function writeEntry(event: AuditEvent, place: Place, personal: readonly PersonalValue[]): string {
  const { action, outcome, actor, device, employee, facts, key, reason, request, subject } = event;
  const { index, time, policy, from, use } = place;
  const body: Record<string, Json> = { action, actor: actor.id === undefined ? { kind: actor.kind } : { id: actor.id, kind: actor.kind } };
  if (device !== undefined) body['device'] = device;
  if (employee !== undefined) body['employee'] = employee;
  if (facts) body['facts'] = Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, plain(fact)]));
  if (from !== undefined) body['from'] = from;
  body['index'] = String(index);
  if (key !== undefined) body['key'] = key;
  body['outcome'] = outcome;
  if (personal.length > 0) body['personal'] = Object.fromEntries(personal.map((one) => [one.name, personalDigest(one)]));
  if (policy) body['policy'] = String(policy);
  if (use?.previous) body['previous'] = base64url(use.previous);
  if (reason !== undefined) body['reason'] = reason;
  if (request !== undefined) body['request'] = request;
  if (subject !== undefined) body['subject'] = subject;
  body['time'] = new Date(time).toISOString();
  if (use) body['use'] = String(use.count);
  body['v'] = schemaVersion(action);
  return canonicalJson(body);
}

/** RFC 8785 §3.2.2.3 and its appendix D: whole numbers that a double cannot hold exactly travel as strings. */
const plain = (fact: string | number | boolean): Json =>
  typeof fact === 'number' && Number.isInteger(fact) && !Number.isSafeInteger(fact) ? BigInt(fact).toString() : fact;
