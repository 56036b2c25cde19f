import 'reflect-metadata';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, jest, test } from '@jest/globals';
import { reconcile } from '../../src/commands/reconcile.js';
import { KeysInEscrow, prepareEscrow, readEscrow } from '../../src/custody/escrow-journal.js';
import type * as imports from '../../src/custody/key-imports.js';
import { base64url, newId, sha256 } from '../../src/foundation/index.js';
import type { House } from '../../src/house.js';
import { eachKind, lastingDatabase } from '../support/database.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { PHRASE, p12Maker } from './p12-maker.js';

jest.setTimeout(60_000);
const BY = { kind: 'operator' } as const;
const make = p12Maker();

/** Two nodes with one database, one token and one second place; which are closed after each test. */
let end: (() => Promise<void>) | undefined;
afterEach(() => end?.());

eachKind((kind) => {
  async function twoNodes() {
    const [place, second] = [await lastingDatabase(kind), mkdtempSync(join(tmpdir(), 'ekms-second-'))];
    await prepareEscrow(second, second, true);
    const { url, home } = place.settings;
    const ekms = await HouseInProcess.open({
      settings: { keys: { bits: 2048, pool: { target: 0 } }, durability: 'two', escrow: { directory: second } },
      database: kind === 'sqlite' ? `sqlite:${join(home, 'ekms.db')}` : url,
    });
    const other = await ekms.beside();
    end = async () => {
      await other.close();
      await ekms.close();
      await place.remove();
      rmSync(second, { recursive: true });
    };
    const [alice, bob] = [newId(), newId()];
    for (const id of [alice, bob])
      await ekms.db.write((unit) => unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 0)", [id]));
    const { p12, publicKey: its } = await make('somebody@corp.example', rsa());
    const nodes = [partsOf(ekms.house), partsOf(other)] as const;
    const open = () => ekms.db.all('SELECT id FROM intents');
    const says = async (publicKey = its) => {
      const digest = sha256(publicKey);
      const found = new KeysInEscrow();
      for await (const line of readEscrow(second, ekms.token)) if (line) found.see(line);
      const [stored] = await ekms.db.all<{ key: string; employee: string }>(
        'SELECT id AS "key", employee FROM keys WHERE public_key_digest = ?',
        [Buffer.from(digest)],
      );
      const line = found.taken.get(base64url(digest));
      const taken = line && found.newestOf(line.id).sealed.record;
      return { stored, escrow: taken && { key: taken.id, employee: taken.employee }, open: await open() };
    };
    return { ekms, other, alice, bob, p12, nodes, says, open };
  }
  type Parts = ConstructorParameters<typeof imports.KeyImports>[0];
  const partsOf = (house: House): { imports: imports.KeyImports; parts: Parts } => {
    const parts = (house.imports as unknown as { parts: Parts }).parts; // what it was made of
    return { imports: house.imports, parts };
  };
  const rsa = (): KeyObject => generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
  /** Where the node writes into the second place, `before` is done first, once. */
  const atTheLine = ({ parts: { second } }: { parts: Parts }, before: () => Promise<unknown>) => {
    const taken = second.taken.bind(second);
    second.taken = async (key) => {
      second.taken = taken;
      await before();
      return taken(key);
    };
  };
  const take = (by: imports.KeyImports, file: Buffer, owner: string) =>
    by.take({ file, phrase: PHRASE, owner, dryRun: false }, BY).then(
      ([key]) => key?.code ?? key?.outcome,
      (error: { code?: string }) => error.code ?? String(error),
    );

  test('of two nodes that bring one key for two people at once one is told to ask again, then whose it is; the second place says the same as the database', async () => {
    const { alice, bob, p12, nodes, says } = await twoNodes();
    const [one, two] = nodes;
    let lost: string | undefined;
    atTheLine(one, async () => {
      lost = await take(two.imports, p12, bob);
    });
    expect(await take(one.imports, p12, alice)).toBe('imported');
    expect(lost).toBe('import-under-way');
    expect(await take(two.imports, p12, bob)).toBe('owner-other');
    expect(await take(two.imports, p12, alice)).toBe('there');
    const { stored, escrow, open } = await says();
    expect(stored?.employee).toBe(alice);
    expect(escrow).toEqual(stored);
    expect(open).toEqual([]);
  });

  test('without the claim the second place would give the key to whoever lost', async () => {
    const { alice, bob, p12, nodes, says } = await twoNodes();
    const unguarded = guardOff<typeof imports>({
      file: 'src/custody/key-imports.ts',
      guard: 'second instanceof OnePlace ? UNCLAIMED : new ImportClaims(storage, clock)',
      instead: 'UNCLAIMED',
    });
    const [one, two] = nodes.map(({ parts }) => ({ parts, imports: new unguarded.KeyImports(parts) as imports.KeyImports }));
    if (!one || !two) throw new Error('there are two');
    atTheLine(one, () => take(two.imports, p12, bob));
    expect(await take(one.imports, p12, alice)).toBe('owner-other');
    const { stored, escrow } = await says();
    expect([stored?.employee, escrow?.employee]).toEqual([bob, alice]);
  });

  test('who waited for the other’s turn writes no line; without that look the second place would say it is theirs', async () => {
    const { alice, bob, p12, nodes, says } = await twoNodes();
    const [one] = nodes;
    const both = (by: imports.KeyImports, file: Buffer) => Promise.all([take(by, file, alice), take(by, file, bob)]);
    expect((await both(one.imports, p12)).sort()).toEqual(['imported', 'owner-other']);
    const { stored, escrow } = await says();
    expect(escrow).toEqual(stored);
    const unguarded = guardOff<typeof imports>({
      file: 'src/custody/key-imports.ts',
      guard: 'if (meanwhile) return meanwhile;\n      await second',
      instead: 'await second',
    });
    const other = await make('somebody@corp.example', rsa());
    const third = new unguarded.KeyImports(one.parts) as imports.KeyImports;
    expect((await both(third, other.p12)).sort()).toEqual(['imported', 'owner-other']);
    const all = await says(other.publicKey);
    expect(all.stored?.employee).toBeDefined();
    expect(all.escrow?.employee).not.toBe(all.stored?.employee);
  });

  /** The first node falls asleep with its claim, which is taken away; the second one brings the key, and the first wakes in the middle of that. */
  async function asleep(nodes: Awaited<ReturnType<typeof twoNodes>>) {
    const { ekms, other, alice, bob, p12 } = nodes;
    const [one, two] = nodes.nodes;
    let second: Promise<string | undefined> | undefined;
    const first = new Promise<string | undefined>((resolve) => {
      atTheLine(one, async () => {
        ekms.pass(120_000);
        expect(await reconcile(other, 120_000)).toBe(1);
        await new Promise<void>((atLine) => {
          atTheLine(two, async () => {
            atLine();
            await first;
          });
          second = take(two.imports, p12, bob);
        });
      });
      void take(one.imports, p12, alice).then(resolve);
    });
    return { first: await first, second: await second, again: await take(one.imports, p12, alice) };
  }

  test('a node that slept with its claim stores nothing, and its line in the second place, though the last one, does not count', async () => {
    const nodes = await twoNodes();
    expect(await asleep(nodes)).toEqual({ first: 'import-under-way', second: 'imported', again: 'owner-other' });
    const { stored, escrow, open } = await nodes.says();
    expect(stored?.employee).toBe(nodes.bob);
    expect(escrow).toEqual(stored);
    expect(open).toEqual([]);
  });

  test('a claim that was taken away while its node was slow is not told as another node’s', async () => {
    const { ekms, other, alice, p12, nodes } = await twoNodes();
    const [one] = nodes;
    atTheLine(one, async () => {
      ekms.pass(120_000);
      expect(await reconcile(other, 120_000)).toBe(1);
    });
    const told = one.imports.take({ file: p12, phrase: PHRASE, owner: alice, dryRun: false }, BY);
    await expect(told).rejects.toMatchObject({ code: 'import-under-way', message: expect.stringContaining('taken for abandoned') });
    expect(await take(one.imports, p12, alice)).toBe('imported');
  });

  test('without the look at the claim in the unit that stores the key, the second place would say what the database does not', async () => {
    const nodes = await twoNodes();
    const unguarded = guardOff<typeof imports>({ file: 'src/custody/key-imports.ts', guard: 'await end(unit);', instead: '' });
    const [one, two] = nodes.nodes;
    const unfenced = { parts: one.parts, imports: new unguarded.KeyImports(one.parts) as imports.KeyImports };
    expect(await asleep({ ...nodes, nodes: [unfenced, two] })).toMatchObject({ first: 'imported', second: 'owner-other' });
    const { stored, escrow } = await nodes.says();
    expect([stored?.employee, escrow?.employee]).toEqual([nodes.alice, nodes.bob]);
  });

  test('a clock that was ahead when somebody claimed in vain does not give them the key', async () => {
    const { ekms, alice, bob, p12, nodes, says } = await twoNodes();
    const [one, two] = nodes;
    const { KeyImports } = jest.requireActual<typeof imports>('../../src/custody/key-imports.js'); // imported as a type above
    const audit = { append: () => Promise.reject(new Error('full')) } as unknown as Parts['audit'];
    ekms.pass(3_600_000);
    expect(await take(new KeyImports({ ...one.parts, audit }), p12, alice)).toBe('Error: full');
    ekms.pass(-3_600_000);
    expect(await take(two.imports, p12, bob)).toBe('imported');
    const { stored, escrow } = await says();
    expect(stored?.employee).toBe(bob);
    expect(escrow).toEqual(stored);
  });

  test('what a lost database left claimed is taken up with the next try of the same process, and another’s with its restart', async () => {
    const { ekms, other, alice, p12, nodes, open } = await twoNodes();
    const [one, two] = nodes;
    // Nor does a unit that failed leave anything claimed.
    const { KeyImports } = jest.requireActual<typeof imports>('../../src/custody/key-imports.js'); // imported as a type above
    const audit = { append: () => Promise.reject(new Error('full')) } as unknown as Parts['audit'];
    expect(await take(new KeyImports({ ...one.parts, audit }), p12, alice)).toBe('Error: full');
    expect(await open()).toEqual([]);
    atTheLine(one, () => Promise.reject(new Error('killed')));
    const { write } = one.parts.storage;
    let writes = 0;
    one.parts.storage.write = ((...args: Parameters<typeof write>) =>
      ++writes > 1 ? Promise.reject(new Error('away')) : write.apply(one.parts.storage, args)) as typeof write;
    expect(await take(one.imports, p12, alice)).toBe('Error: killed');
    expect(writes).toBe(2);
    one.parts.storage.write = write;
    expect(await take(two.imports, p12, alice)).toBe('import-under-way');
    expect(await open()).toHaveLength(1);
    expect(await take(one.imports, p12, alice)).toBe('imported');
    expect(await open()).toEqual([]);
    await ekms.db.write((unit) => unit.run("INSERT INTO intents (id, kind, body, created) VALUES ('take:x', 'take-key', '{}', 0)"));
    expect(await reconcile(other)).toBe(1);
    expect(await open()).toEqual([]);
  });
});
