import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { copyOfLog, LogCopy } from '../../src/audit/index.js';
import { verifyExport } from '../../src/codec/audit-log/index.js';
import { bundlePath, pureSha256, tilePath, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import type { Storage } from '../../src/foundation/index.js';
import { auditNoteKey } from '../../src/tokens/index.js';
import { eachDatabase, liftKept } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';
import { logOn, logToken, ORIGIN, STARTED } from '../support/log-lab.js';

jest.setTimeout(60_000);
const undo: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
});

/** A log with its token and a copy in a folder. */
async function lab(storage: Storage, origin = ORIGIN) {
  const { folder, token } = await logToken(undo);
  const { log, book, checkpoints } = logOn(storage, token, { origin });
  const second = join(folder, 'second');
  mkdirSync(second);
  const copyTo = (directory: string) => new LogCopy(book, storage, directory, async (path) => existsSync(path));
  const grow = async (count: number) => {
    await storage.write(async (unit) => {
      for (let n = 0; n < count; n += 1) await log.append(unit, STARTED);
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
  return { storage, book, second, copyTo, grow, verdict };
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

    test('a log that was put back and has grown past its copy is told, and what the copy proves is not written over; with the guard off they are mixed', async () => {
      const { storage } = await open();
      const { second, copyTo, grow, verdict } = await lab(storage);
      await grow(30);
      await copyTo(second).follow();
      // Another thirty entries under the same name, and more.
      const path = join(second, 'log/checkpoint');
      const other = await lab((await open()).storage);
      await other.grow(40);
      const note = readFileSync(path, 'utf8');
      await expect(other.copyTo(second).follow()).rejects.toThrow(/its 30 entries are not how the 40 signed ones of the log begin/);
      expect(readFileSync(path, 'utf8')).toBe(note);
      expect(await verdict()).toEqual({ size: 30, damages: [] });
      const { LogCopy: Unguarded } = guardOff<{ LogCopy: typeof LogCopy }>({
        file: 'src/audit/log-copy.ts',
        guard: 'if (held) await this.#requireBeginning(held, head);',
        instead: '',
      });
      await new Unguarded(other.book, other.storage, second, async (folder) => existsSync(folder)).follow();
      expect(readFileSync(path, 'utf8')).not.toBe(note);
    });

    test('of a checkpoint that cannot be read nothing is taken, and that is said', async () => {
      const { storage } = await open();
      const { second, copyTo, grow } = await lab(storage);
      await grow(3);
      await copyTo(second).follow();
      writeFileSync(join(second, 'log/checkpoint'), '');
      expect(() => copyOfLog(second, ORIGIN)).toThrow(/cannot be read/);
      await copyTo(second).follow();
      expect(copyOfLog(second, ORIGIN)).toBeDefined();
    });

    test('a file of it that changed is written anew out of the log; what only the copy has as it was signed is told and left; with the guard off it is lost', async () => {
      const database = await open();
      const { book, second, copyTo, grow, verdict } = await lab(database.storage);
      await grow(700);
      const copy = copyTo(second);
      await copy.follow();
      const file = (path: string) => join(second, 'log', path);
      const bundle = bundlePath({ index: 1, width: 256 });
      const whole = readFileSync(file(bundle));
      const rot = () => {
        const bytes = Buffer.from(whole);
        bytes[100] = (bytes[100] ?? 0) ^ 1;
        writeFileSync(file(bundle), bytes);
        rmSync(file('tile/0/002.p/188'));
        writeFileSync(file('tile/1/000.p/2'), 'x');
      };
      rot();
      expect((await verdict()).damages).not.toEqual([]);
      const three = [bundle, 'tile/0/002.p/188', 'tile/1/000.p/2'].sort();
      const look = await copy.readAgain({ mend: false });
      expect([look.damaged.sort(), look.mended, look.size, copy.mended]).toEqual([three, [], 700, 0]);
      // A bit at a time, and round again.
      const found = [];
      for (let n = 0; n < 4; n += 1) found.push(...(await copy.readAgain({ most: 1 })).mended);
      expect([found.sort(), copy.mended, copy.trouble]).toEqual([three, 3, undefined]);
      expect(await verdict()).toEqual({ size: 700, damages: [] });

      // Whoever writes the database changes an entry: its copy is the only one as it was signed.
      await database.tamper(`${liftKept(database.kind)} UPDATE audit_entries SET body = REPLACE(body, 'done', 'dome') WHERE idx = 300`);
      expect(await copy.readAgain()).toMatchObject({ damaged: [bundle], mended: [] });
      expect(copy.trouble).toMatch(/1 files of the copy of the log are not as the log has them \(tile\/entries\/001\)/);
      expect(readFileSync(file(bundle))).toEqual(whole);
      const { LogCopy: Unguarded } = guardOff<{ LogCopy: typeof LogCopy }>({
        file: 'src/audit/log-copy.ts',
        guard: ' || !(await this.#isSigned(file, held))',
        instead: '',
      });
      await new Unguarded(book, database.storage, second, async (folder) => existsSync(folder)).readAgain();
      expect(readFileSync(file(bundle))).not.toEqual(whole);
      rmSync(second, { recursive: true });
      await expect(copy.readAgain()).rejects.toThrow(/is it mounted/);
    });

    test('the alarm is over when the copy was moved away and made anew, or put right from elsewhere; with the guard off it goes on', async () => {
      const database = await open();
      const { book, second, copyTo, grow } = await lab(database.storage);
      await grow(1_300);
      const { LogCopy: Unguarded } = guardOff<{ LogCopy: typeof LogCopy }>({
        file: 'src/audit/log-copy.ts',
        guard: 'if (!held) this.#damaged.clear();',
        instead: '',
      });
      const unguarded = new Unguarded(book, database.storage, second, async (folder) => existsSync(folder));
      const [copy, other] = [copyTo(second), copyTo(second)];
      await copy.follow();
      await database.tamper(
        `${liftKept(database.kind)} UPDATE audit_entries SET body = REPLACE(body, 'done', 'dome') WHERE idx IN (10, 300)`,
      );
      for (const one of [copy, other, unguarded]) {
        await one.readAgain();
        expect(one.trouble).toMatch(/2 files of the copy/);
      }
      renameSync(join(second, 'log'), join(second, 'aside'));
      await copy.follow();
      expect(copy.trouble).toBeUndefined();
      // Another node did not copy it: what it found damaged it looks at first, wherever its round is.
      expect(other.trouble).toMatch(/2 files of the copy/);
      await other.readAgain({ most: 2 });
      expect(other.trouble).toBeUndefined();
      rmSync(join(second, 'log'), { recursive: true });
      await unguarded.follow();
      expect(unguarded.trouble).toMatch(/2 files of the copy/);
    });

    test('all of it is read in its time, by processes that end, and the newest each time; one file that cannot be read or written keeps nothing', async () => {
      const { storage } = await open();
      const { book, second, copyTo, grow, verdict } = await lab(storage);
      await grow(1_300);
      await copyTo(second).follow();
      const file = (path: string) => join(second, 'log', path);
      const bundles = [0, 1, 2, 3, 4].map((index) => bundlePath({ index, width: 256 }));
      const newest = 'tile/0/005.p/20';
      const rot = (paths: string[]) => {
        for (const path of paths) writeFileSync(file(path), 'x');
      };
      rot(bundles);
      for (let passes = 0; passes < 6; passes += 1) {
        rot([newest]);
        expect((await copyTo(second).readAgain({ most: 1 })).mended).toContain(newest);
        expect((await verdict()).damages.length === 0).toBe(passes === 5);
      }
      // Of a large log more at a time: here of six bundles so many that two times are enough.
      const { LogCopy: Quick } = guardOff<{ LogCopy: typeof LogCopy }>({
        file: 'src/audit/log-copy.ts',
        guard: 'const ROUND = 7 * 24;',
        instead: 'const ROUND = 2;',
      });
      rot(bundles);
      for (const left of [false, true]) {
        await new Quick(book, storage, second, async (folder) => existsSync(folder)).readAgain({ most: 1 });
        expect((await verdict()).damages.length === 0).toBe(left);
      }
      rot(bundles);
      rmSync(file(bundles[3] ?? ''));
      mkdirSync(file(bundles[3] ?? ''));
      const copy = copyTo(second);
      const { mended, damaged } = await copy.readAgain();
      expect([mended.sort(), damaged]).toEqual([bundles.toSpliced(3, 1), [bundles[3]]]);
      expect(copy.trouble).toMatch(/1 files of the copy/);
      rmSync(file(bundles[3] ?? ''), { recursive: true });
      await copy.readAgain();
      expect([copy.trouble, await verdict()]).toEqual([undefined, { size: 1_300, damages: [] }]);
      // Who stops the appliance does not wait until all is read.
      rot(bundles);
      copy.begin();
      const cut = copy.readAgain();
      await copy.stop();
      expect((await cut).mended.length).toBeLessThan(bundles.length);
    });

    test('a disk that is rotten all over costs one proof a file, and following goes on meanwhile; hashes that were not signed are not written', async () => {
      const database = await open();
      const { book, second, copyTo, grow, verdict } = await lab(database.storage);
      await grow(1_024);
      const copy = copyTo(second);
      await copy.follow();
      const file = (path: string) => join(second, 'log', path);
      const tile = 'tile/0/002';
      const whole = readFileSync(file(tile));
      for (let index = 0; index < 4; index += 1)
        for (const path of [`tile/0/00${index}`, bundlePath({ index, width: 256 })]) writeFileSync(file(path), '');
      await grow(5);
      const proofs = jest.spyOn(book.tiles, 'inclusion');
      const order: string[] = [];
      const reading = copy.readAgain().then(() => order.push('read'));
      await copy.follow();
      order.push('followed');
      await reading;
      expect(order).toEqual(['followed', 'read']);
      expect([copy.mended, proofs.mock.calls.length]).toEqual([8, 8]);
      expect(await verdict()).toEqual({ size: 1_029, damages: [] });

      // Whoever writes the database changes one hash, the last of its tile: for the moment in which it is read, and for good.
      const forged = Buffer.from(whole);
      forged.writeUInt8(forged.readUInt8(8_191) ^ 1, 8_191);
      const honest = book.tiles.tile.bind(book.tiles);
      let shown = 0;
      const tiles = jest
        .spyOn(book.tiles, 'tile')
        .mockImplementation(async (of) => (tilePath(of) === tile && shown++ === 0 ? forged : honest(of)));
      expect(await copy.readAgain()).toMatchObject({ damaged: [tile], mended: [] });
      tiles.mockRestore();
      expect(readFileSync(file(tile))).toEqual(whole);
      const bytes = database.kind === 'sqlite' ? `x'${forged.toString('hex')}'` : `'\\x${forged.toString('hex')}'`;
      await database.tamper(`${liftKept(database.kind)} UPDATE audit_tiles SET hashes = ${bytes} WHERE level = 0 AND n = 2`);
      expect(await copy.readAgain()).toMatchObject({ damaged: [tile], mended: [] });
      expect(readFileSync(file(tile))).toEqual(whole);
    });

    test('two nodes that copy at once leave it whole', async () => {
      const { storage } = await open();
      const { second, copyTo, grow, verdict } = await lab(storage);
      const nodes = [copyTo(second), copyTo(second)];
      let size = 0;
      for (const count of [100, 200, 300]) {
        await grow(count);
        size += count;
        await Promise.all(nodes.map((node) => node.follow()));
        expect(await verdict()).toEqual({ size, damages: [] });
      }
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
      await expect(copyTo(second).follow()).rejects.toThrow(/its 300 entries are not how the 100 signed ones of the log begin/);
      expect(readFileSync(join(second, 'log/checkpoint'), 'utf8')).toBe(note);
      checkpoint.mockResolvedValue(old.replace('/v1/audit', '/v1/audit-restored'));
      await copyTo(second).follow();
      expect(readFileSync(join(second, 'log/checkpoint'), 'utf8')).toMatch(/audit-restored\n100\n/);
      expect(() => copyOfLog(second, ORIGIN)).toThrow(/goes by another name/);
      const [aside] = readdirSync(second).filter((name) => name !== 'log');
      expect(readFileSync(join(second, aside ?? '', 'checkpoint'), 'utf8')).toBe(note);
      expect(readFileSync(join(second, aside ?? '', bundlePath({ index: 0, width: 256 })))).toEqual(bundle);
      // And once more, as after a second restore of the same backup.
      checkpoint.mockResolvedValue(old);
      await copyTo(second).follow();
      checkpoint.mockResolvedValue(old.replace('/v1/audit', '/v1/audit-again'));
      await copyTo(second).follow();
      expect(readdirSync(second)).toHaveLength(4);
    });
  });
});
