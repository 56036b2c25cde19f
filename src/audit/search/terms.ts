import { hash } from 'node:crypto';
import type { LogEntry } from '../audit-reader.js';

/** What an entry can be found by. `address`: an e-mail address that it names; `network`: where the request came from. */
export type TermKind = 'employee' | 'key' | 'device' | 'subject' | 'action' | 'outcome' | 'network' | 'address';

/** Personal values that are e-mail addresses, several with a blank between. */
const ADDRESSES = ['address', 'recipient', 'recipients', 'sought'] as const;

/** 48 bits of a digest: a whole number on both databases and in JavaScript. Two things of one term are told apart by the entry itself. */
export const termOf = (kind: TermKind, value: string): number =>
  Number.parseInt(hash('sha256', `${kind}\0${value}`, 'hex').slice(0, 12), 16);

/** The e-mail addresses that an entry names, as they are compared. */
export const addressesOf = ({ personal }: Pick<LogEntry, 'personal'>): string[] =>
  ADDRESSES.flatMap((name) => personal[name]?.toLowerCase().split(' ') ?? []);

/** What an entry says of each kind. */
export function saidBy(entry: Pick<LogEntry, 'body' | 'personal'>): Record<TermKind, readonly string[]> {
  const { employee, key, device, subject, action, outcome } = entry.body;
  const one = (value: string | undefined) => (value === undefined ? [] : [value]);
  return {
    ...{ employee: one(employee), key: one(key), device: one(device), subject: one(subject), action: [action], outcome: [outcome] },
    ...{ network: one(entry.personal['network']), address: addressesOf(entry) },
  };
}

/** All terms of an entry, each once. */
export function termsOf(entry: Pick<LogEntry, 'body' | 'personal'>): Set<number> {
  const terms = new Set<number>();
  for (const [kind, values] of Object.entries(saidBy(entry)) as [TermKind, readonly string[]][]) // the record's own keys
    for (const value of values) terms.add(termOf(kind, value));
  return terms;
}
