import { expect, jest, test } from '@jest/globals';
import * as content from '../../src/custody/backup-content.js';
import type { SqlValue } from '../../src/foundation/index.js';
import { openSnapshot, type Snapshot, type StorageSettings, type TableRows, withFreshSchema } from '../../src/storage/index.js';
import { fillDatabase } from '../../src/storage/snapshot.js';
import { dice } from '../faults/dice.js';
import { eachDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';

jest.setTimeout(60_000);

type Source = Pick<Snapshot, 'migrations' | 'rows'>;
const ABOUT = { journal: '', configuration: '' };

/** Backups of moments, each on the one before, without what is around their content. */
class Chain {
  readonly #links: Buffer[] = [];
  #pages = new Set<string>();

  constructor(private readonly of: typeof content = content) {}

  async add(source: Source): Promise<{ bytes: number; named: number }> {
    const known = this.#pages;
    const kept: Buffer[] = [];
    const base =
      this.#links.length > 0
        ? { id: String(this.#links.length), digest: '', has: (digest: Buffer) => known.has(digest.toString('hex')) }
        : undefined;
    const parts: Buffer[] = [];
    for await (const part of this.of.encodeContent(ABOUT, source, { base, kept: (digest) => kept.push(digest) })) parts.push(part);
    this.#pages = new Set(kept.map((digest) => digest.toString('hex')));
    const link = Buffer.concat(parts);
    this.#links.push(link);
    const named = link
      .toString()
      .split('\n')
      .flatMap((line) => (line.startsWith('{"t":') ? [String((JSON.parse(line) as { s?: string }).s ?? '')] : []));
    return { bytes: link.length, named: named.reduce((sum, text) => sum + Buffer.from(text, 'base64').length / 32, 0) };
  }

  /** The rows at the moment of each, newest last. */
  async rows(n: number): Promise<AsyncGenerator<TableRows>> {
    const opened = [];
    for (const link of this.#links.slice(0, n + 1)) opened.push(await this.of.decodeContent(inParts(link)));
    return this.of.rowsOf(opened);
  }
}

async function* inParts(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
}

async function sorted(rows: AsyncIterable<TableRows>): Promise<string[]> {
  const all: string[] = [];
  for await (const { table, columns, rows: some } of rows)
    for (const row of some)
      all.push(JSON.stringify([table, columns, row.map((value) => (value instanceof Uint8Array ? Buffer.from(value) : value))]));
  return all.filter((text) => !text.includes('"restore.filled"')).sort();
}

/** Tables that have no primary key, and so may hold the same rows, and the same pages, more than once. */
const without = (tables: Record<string, SqlValue[][]>): Source => ({
  migrations: ['none'],
  async *rows() {
    for (const [table, rows] of Object.entries(tables)) {
      for (let at = 0; at < rows.length; at += 50) yield { table, columns: ['a', 'b'], rows: rows.slice(at, at + 50) };
      yield { table, columns: ['a', 'b'], rows: [] };
    }
  },
});

test('pages that are in a table more than once come back as often, whatever went and came between the backups; without that guard a backup is made that nobody can restore', async () => {
  const row = (n: number): SqlValue[] => [`${n % 3}`, Buffer.alloc(30_000, n % 3)];
  const rows = (count: number) => Array.from({ length: count }, (_, n) => row(n));
  const moments = [3, 12, 6, 7, 30, 0, 9].map((count) => ({ one: rows(count), two: rows(count >> 1) }));
  for (const [guarded, of] of [
    [true, content],
    [false, guardOff<typeof content>({ file: 'src/custody/backup-content.ts', guard: ' && !named.has(text)', instead: '' })],
  ] as const) {
    const chain = new Chain(of);
    const outcomes: boolean[] = [];
    let all = 0;
    for (const [n, moment] of moments.entries()) {
      all += (await chain.add(without(moment))).named;
      const back = await sorted(await chain.rows(n)).catch((error: { code?: string }) => error.code);
      if (guarded) expect(back).toEqual(await sorted(without(moment).rows()));
      outcomes.push(Array.isArray(back));
    }
    expect(all).toBeGreaterThan(3);
    expect(outcomes.every((whole) => whole)).toBe(guarded);
  }
});

/** Values that a database or JSON might bend. */
const TEXTS = ['', '\u0000'.repeat(0), 'ß😀\n"\\', '\ud7ff\ue000', '{"b":"AA=="}', 'x'.repeat(70_000)];
const WHOLE = [0, -1, 2 ** 31, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];

eachDatabase((open, kind) => {
  test('whatever comes, changes and goes between the backups of a chain, each gives back the rows of its own moment', async () => {
    const seed = Number(process.env['EKMS_TEST_SEED'] ?? 7);
    const roll = dice(seed);
    const pick = <T>(of: readonly T[]): T => of[roll(of.length)] as T; // it is never empty
    const { storage, settings } = await open();
    let made = 0;
    const text = () => pick([...TEXTS, `value ${roll(1_000)} `.repeat(roll(60))]);
    const bytes = () => Buffer.alloc(roll(400), roll(256));
    const some = async (count: number) =>
      storage.write(async (unit) => {
        for (let n = 0; n < count; n++)
          switch (roll(6)) {
            case 0:
            case 1:
              await unit.run('INSERT INTO settings (name, value) VALUES (?, ?)', [`${roll(1_000)}.${++made}`, text()]);
              break;
            case 2:
              await unit.run('INSERT INTO audit_timestamps (origin, size, note, token, time, made) VALUES (?, ?, ?, ?, ?, ?)', [
                ...[`o${roll(3)}`, ++made, text(), bytes(), pick(WHOLE), pick(WHOLE)],
              ]);
              break;
            case 3:
              await unit.run('INSERT INTO intents (id, kind, body, created) VALUES (?, ?, ?, ?)', [`${++made}`, 'k', text(), pick(WHOLE)]);
              break;
            case 4:
              await unit.run('UPDATE settings SET value = ? WHERE name LIKE ?', [text(), `%${roll(100)}`]);
              break;
            default:
              await unit.run('DELETE FROM settings WHERE name LIKE ?', [`%${roll(100)}`]);
              if (roll(8) === 0) await unit.run('DELETE FROM intents');
              await unit.run('DELETE FROM audit_timestamps WHERE size % 7 = ?', [roll(7)]);
          }
      });
    const now = async (of: StorageSettings) => {
      const snapshot = await openSnapshot(of);
      try {
        return await sorted(snapshot.rows());
      } finally {
        await snapshot.close();
      }
    };
    const chain = new Chain();
    let named = 0;
    for (let n = 0; n < 4; n++) {
      await some(n === 0 ? 800 : 1 + roll(60));
      const moment = await now(settings);
      const snapshot = await openSnapshot(settings);
      ({ named } = await chain.add(snapshot));
      await snapshot.close();
      if (n % 2 === 0) continue;
      const blank = await open();
      await blank.storage.close();
      const { migrations } = snapshot;
      await withFreshSchema(blank.settings, migrations, async (runner) => fillDatabase(runner, await chain.rows(n), 'this'));
      expect([kind, seed, n, await now(blank.settings)]).toEqual([kind, seed, n, moment]);
    }
    expect(named).toBeGreaterThan(0);
  });
});
