import { setImmediate as turn } from 'node:timers/promises';
import type { AuditLog, Clock, Storage } from '../../foundation/index.js';
import { AuditReader } from '../audit-reader.js';
import type { ReadingBy } from '../log-book.js';
import { Postings } from '../search/postings.js';
import type { SearchIndex } from '../search/search-index.js';
import { termOf } from '../search/terms.js';
import { siteOf, type Use, unusualUses } from './unusual-uses.js';

export const REPORTS = ['releases', 'unusual', 'dormant', 'recoveries'] as const;
export type ReportName = (typeof REPORTS)[number];

export interface ReportRange {
  /** Milliseconds since 1970. */
  from: number;
  to: number;
}
export type ReportRow = Record<string, string | number | null>;
export interface Report extends ReportRange {
  report: ReportName;
  rows: ReportRow[];
}

/** Entries read at once: some 5 ms, then others have their turn. */
const CHUNK = 2_000;
/** Rows of a report; the rest would be for nobody to read. */
const ROWS = 10_000;
const RELEASES: ReadonlySet<string> = new Set(['key.deliver', 'key.decrypt', 'key.read', 'recovery.release', 'key.export']);

interface Line {
  idx: number;
  time: number;
  action: string;
  outcome: string;
  key: string | null;
  device: string | null;
  employee: string | null;
}

/** What the log says, summed up for people. Read in one pass, beside the service. */
export class AuditReports {
  readonly #reader: AuditReader;
  readonly #postings: Postings;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly index: Pick<SearchIndex, 'next' | 'catchUp'>,
  ) {
    this.#reader = new AuditReader(storage);
    this.#postings = new Postings(storage);
  }

  /** Reading a report is an entry. */
  async make(report: ReportName, given: Partial<ReportRange>, by: ReadingBy): Promise<Report> {
    const to = given.to ?? this.clock.now().getTime();
    const range = { from: given.from ?? to - USUAL[report] * DAY, to };
    const rows = (await this[report](range)).slice(0, ROWS);
    await this.storage.write((unit) =>
      this.audit.append(unit, {
        action: 'audit.report',
        outcome: 'done',
        actor: by.actor,
        ...(by.request ? { request: by.request.id, personal: { network: by.request.network } } : {}),
        facts: { report, rows: rows.length },
      }),
    );
    return { report, ...range, rows };
  }

  /** Keys released and refused, by day (UTC). */
  private async releases(range: ReportRange): Promise<ReportRow[]> {
    const days = new Map<string, { released: number; refused: number; keys: Set<string>; people: Set<string>; devices: Set<string> }>();
    for await (const { time, action, outcome, key, device, employee } of this.#lines(range)) {
      if (!RELEASES.has(action)) continue;
      const name = dayOf(time);
      const day = days.get(name) ?? { released: 0, refused: 0, keys: new Set(), people: new Set(), devices: new Set() };
      days.set(name, day);
      if (outcome !== 'done') day.refused += 1;
      else {
        day.released += 1;
        if (key) day.keys.add(key);
        if (employee) day.people.add(employee);
        if (device) day.devices.add(device);
      }
    }
    return [...days].map(([day, { released, refused, keys, people, devices }]) => ({
      ...{ day, released, refused },
      ...{ keys: keys.size, people: people.size, devices: devices.size },
    }));
  }

  private async unusual(range: ReportRange): Promise<ReportRow[]> {
    const uses: Use[] = [];
    const networks = await this.#networks(range);
    for await (const { idx, time, action, outcome, device, employee } of this.#lines(range))
      if (RELEASES.has(action) && outcome === 'done' && device)
        uses.push({ index: idx, day: dayOf(time), device, employee: employee ?? '', site: networks.get(idx) });
    return unusualUses(uses);
  }

  /** Devices that may fetch keys and have not been heard of since the beginning of the range. */
  private async dormant({ from }: ReportRange): Promise<ReportRow[]> {
    const rows: ReportRow[] = [];
    const devices = await this.storage.all<{ id: string; employee: string; platform: string; enrolled: number }>(
      "SELECT id, employee, platform, enrolled FROM devices WHERE state = 'active' AND enrolled < ? ORDER BY id",
      [from],
    );
    await this.index.catchUp();
    for (const [n, { id, employee, platform, enrolled }] of devices.entries()) {
      if (n % 100 === 99) await turn();
      const last = await this.#lastOf(id);
      if (!last || last.time < from)
        rows.push({ device: id, employee, platform, enrolled: instant(enrolled), last: last ? instant(last.time) : null });
    }
    return rows;
  }

  /** The time of the last entry about a device. */
  async #lastOf(device: string): Promise<{ time: number } | undefined> {
    const indexed = await this.index.next();
    const young = await this.storage.one<{ time: number }>(
      'SELECT time FROM audit_entries WHERE idx >= ? AND device = ? ORDER BY idx DESC LIMIT 1',
      [indexed, device],
    );
    if (young) return young;
    for await (const { indices } of this.#postings.walk([[termOf('device', device)]], { bottom: 0, top: indexed }))
      for (const index of indices) {
        const row = await this.storage.one<{ time: number }>('SELECT time FROM audit_entries WHERE idx = ? AND device = ?', [
          index,
          device,
        ]);
        if (row) return row;
      }
    return undefined;
  }

  private async recoveries(range: ReportRange): Promise<ReportRow[]> {
    const found: number[] = [];
    for await (const { idx, action } of this.#lines(range)) if (action.startsWith('recovery.') || action === 'key.read') found.push(idx);
    return (await this.#reader.entries(found.slice(-ROWS))).map(({ index, body }) => ({
      ...{ index, time: body.time, action: body.action, outcome: body.outcome, actor: body.actor.id ?? body.actor.kind },
      ...{ case: body.subject ?? null, employee: body.employee ?? null, why: body.reason ?? String(body.facts?.['reason'] ?? '') },
    }));
  }

  async *#lines({ from, to }: ReportRange): AsyncGenerator<Line> {
    const end = await this.#reader.indexAt(to);
    for (let at = await this.#reader.indexAt(from); at < end; at += CHUNK) {
      yield* await this.storage.all<Line>(
        'SELECT idx, time, action, outcome, key, device, employee FROM audit_entries WHERE idx >= ? AND idx < ? ORDER BY idx',
        [at, Math.min(end, at + CHUNK)],
      );
      await turn();
    }
  }

  async #networks({ from, to }: ReportRange): Promise<Map<number, string>> {
    const networks = new Map<number, string>();
    const end = await this.#reader.indexAt(to);
    for (let at = await this.#reader.indexAt(from); at < end; at += CHUNK) {
      for (const { idx, name, value } of await this.#reader.values(at, Math.min(end, at + CHUNK) - 1))
        if (name === 'network') networks.set(idx, siteOf(value));
      await turn();
    }
    return networks;
  }
}

const DAY = 86_400_000;
/** Days that each looks back, unless told otherwise. */
const USUAL: Record<ReportName, number> = { releases: 31, unusual: 31, dormant: 90, recoveries: 365 };
const dayOf = (time: number): string => instant(time).slice(0, 10);
const instant = (time: number): string => new Date(time).toISOString();
