import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { Checkpoints, copyOfLog, DurableAuditLog, LogBook, LogCopy, LogStanding, LogTree } from '../../src/audit/index.js';
import { verifyExport } from '../../src/codec/audit-log/index.js';
import { bundlePath, pureSha256, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import { type AuditEvent, type Storage, SystemClock } from '../../src/foundation/index.js';
import { auditNoteKey } from '../../src/tokens/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { eachDatabase, liftKept } from '../support/database.js';

jest.setTimeout(60_000);
const clock = new SystemClock();
const ORIGIN = 'ekms.corp.example/v1/audit';
const started: AuditEvent = { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } };
const urls = { crl: 'http://ekms.corp.example/crl', issuer: 'http://ekms.corp.example/cer' };
const AUTHORITIES = {
  organisation: 'Corp',
  domains: ['corp.example'],
  publicName: 'ekms.corp.example',
  urls: { root: urls, people: urls, devices: urls, infrastructure: urls },
};

const undo: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
});

/** A log with its token and a copy in a folder. */
async function lab(storage: Storage, origin = ORIGIN) {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-copy-'));
  undo.push(() => rmSync(folder, { recursive: true }));
  const token = await MemoryToken.open(join(folder, 'journal'), AUTHORITIES, clock);
  undo.push(() => token.close());
  const log = new DurableAuditLog(clock);
  const tree = new LogTree(storage);
  const book = new LogBook(storage, log, tree);
  const checkpoints = new Checkpoints({ tree, tiles: book.tiles, token, standing: new LogStanding(), clock, origin });
  const second = join(folder, 'second');
  mkdirSync(second);
  const copyTo = (directory: string) => new LogCopy(book, storage, directory, existsSync);
  const grow = async (count: number) => {
    await storage.write(async (unit) => {
      for (let n = 0; n < count; n += 1) await log.append(unit, started);
    });
    await checkpoints.publish();
  };
  const verdict = async () => {
    const source = copyOfLog(second, origin);
    if (!source) throw new Error('there is no copy');
    const key = auditNoteKey(origin, await token.signingKey('audit'));
    const { damages, size } = await verifyExport(source, { sha256: pureSha256, verify: verifyByWebCrypto, key });
    return { size, damages: damages.map(({ words }) => words) };
  };
  return { book, second, copyTo, grow, verdict };
}

describe('the copy of the log at the second place', () => {
  eachDatabase((open) => {
    test('is an export of all that is signed, however it grew, and is left as it was where the place is away', async () => {
      const { storage } = await open();
      const { second, copyTo, grow, verdict } = await lab(storage);
      const copy = copyTo(second);
      await copy.follow();
      expect(copyOfLog(second, ORIGIN)).toBeUndefined();
      let size = 0;
      for (const count of [3, 250, 3, 1, 600, 7]) {
        await grow(count);
        size += count;
        await copy.follow();
        expect(await verdict()).toEqual({ size, damages: [] });
      }
      expect(existsSync(join(second, 'log/tile/0/000.p'))).toBe(false);
      await grow(1);
      rmSync(second, { recursive: true });
      await expect(copy.follow()).rejects.toThrow(/is it mounted/);
      mkdirSync(second);
      await copy.follow();
      expect(await verdict()).toEqual({ size: size + 1, damages: [] });
    });

    test('is whole up to its checkpoint wherever it was cut off, and goes on', async () => {
      const { storage } = await open();
      const { book, second, copyTo, grow, verdict } = await lab(storage);
      await grow(200);
      await copyTo(second).follow();
      await grow(400);
      const { tiles } = book;
      const tile = tiles.tile.bind(tiles);
      let asked = 0;
      let cuts = 0;
      for (const until of [1, 2, 3]) {
        asked = 0;
        const cut = jest.spyOn(tiles, 'tile').mockImplementation(async (of) => {
          if (++asked <= until) return tile(of);
          cuts += 1;
          throw new Error('cut off');
        });
        await expect(copyTo(second).follow()).rejects.toThrow('cut off');
        cut.mockRestore();
        expect(await verdict()).toEqual({ size: 200, damages: [] });
      }
      process.stderr.write(`${cuts} copies cut off\n`);
      writeFileSync(join(second, 'log/checkpoint.new'), 'half');
      await copyTo(second).follow();
      expect(await verdict()).toEqual({ size: 600, damages: [] });
    });

    test('a log that is older than its copy changes nothing of it; one of another name begins a copy of its own and puts the former aside', async () => {
      const database = await open();
      const { book, second, copyTo, grow } = await lab(database.storage);
      await grow(300);
      await copyTo(second).follow();
      const note = readFileSync(join(second, 'log/checkpoint'), 'utf8');
      const bundle = readFileSync(join(second, 'log', bundlePath({ index: 0, width: 256 })));
      // The log, as a database from before would have it.
      await database.tamper(`${liftKept(database.kind)} DELETE FROM audit_entries WHERE idx >= 100`);
      const old = note.replace(/\n300\n/, '\n100\n');
      const checkpoint = jest.spyOn(book, 'checkpoint').mockResolvedValue(old);
      await expect(copyTo(second).follow()).rejects.toThrow(/it has 300 entries, the log has signed 100/);
      expect(readFileSync(join(second, 'log/checkpoint'), 'utf8')).toBe(note);
      checkpoint.mockResolvedValue(old.replace('/v1/audit', '/v1/audit-restored'));
      await copyTo(second).follow();
      expect(readFileSync(join(second, 'log/checkpoint'), 'utf8')).toMatch(/audit-restored\n100\n/);
      const former = copyOfLog(second, ORIGIN);
      expect(String(Buffer.from((await former?.read('checkpoint')) ?? []))).toBe(note);
      expect(await former?.read(bundlePath({ index: 0, width: 256 }))).toEqual(bundle);
    });
  });
});
