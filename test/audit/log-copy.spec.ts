import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { copyOfLog, LogCopy } from '../../src/audit/index.js';
import { verifyExport } from '../../src/codec/audit-log/index.js';
import { bundlePath, pureSha256, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
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
        guard: ' && (await this.#isSigned(file, held))',
        instead: '',
      });
      await new Unguarded(book, database.storage, second, async (folder) => existsSync(folder)).readAgain();
      expect(readFileSync(file(bundle))).not.toEqual(whole);
      rmSync(second, { recursive: true });
      await expect(copy.readAgain()).rejects.toThrow(/is it mounted/);
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
