import type { PrintedLine } from '../../codec/printed-pages.js';
import type { AuditActor, Json } from '../../foundation/index.js';
import type { LogEntry } from '../audit-reader.js';

export interface CoverFacts {
  /** What was asked for, by name. */
  question: Json;
  entries: readonly LogEntry[];
  by: AuditActor;
  made: string;
  key: string;
}

/** Entries told on paper; all of them are in the pack. */
const TOLD = 200;

/** The pack for people: what was asked, by whom, and the entries in a line each. */
export async function coverPages({ question, entries, by, made, key }: CoverFacts): Promise<Uint8Array> {
  const asked = Object.entries(question ?? {}).filter(([, value]) => value !== undefined);
  const lines: PrintedLine[] = [
    { line: 'Evidence out of the audit log', style: 'title' },
    { line: `Made ${made} for ${by.kind} ${by.id ?? ''}` },
    { line: `${entries.length} entries; what was asked for: ${asked.length === 0 ? 'all' : ''}` },
    ...asked.map(([name, value]): PrintedLine => ({ line: `   ${name}: ${String(value)}` })),
    { line: 'The key of the log, to be compared with the one you have', style: 'head' },
    ...pieces(key).map((line): PrintedLine => ({ line, style: 'code' })),
    { line: 'How to verify: README.txt in the pack. This page proves nothing by itself.' },
    { line: 'Entries', style: 'head' },
    ...entries.slice(0, TOLD).flatMap(told),
    ...(entries.length > TOLD ? [{ line: `and ${entries.length - TOLD} more, in entries.jsonl` }] : []),
  ];
  // Loaded here: it comes with a megabyte that no start needs.
  const { printedPages } = await import('../../codec/printed-pages.js');
  return printedPages('Evidence out of the audit log', lines);
}

function told({ index, body, personal }: LogEntry): PrintedLine[] {
  const { time, action, outcome, reason, actor, employee, device, key } = body;
  const ids = Object.entries({ actor: actor.id, employee, device, key, ...personal }).filter(([, value]) => value !== undefined);
  return [
    { line: `${index}  ${time}  ${action} ${outcome}${reason === undefined ? '' : ` (${reason})`}  by ${actor.kind}` },
    ...ids.flatMap(([name, value]) => pieces(`${name} ${value}`).map((line): PrintedLine => ({ line: `      ${line}`, style: 'code' }))),
  ];
}

/** What fits on a line of the small type. */
const pieces = (text: string): string[] => text.match(/.{1,92}/g) ?? [];
