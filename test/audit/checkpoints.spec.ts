import { afterEach, describe, expect, test } from '@jest/globals';
import {
  hashLeaf,
  isWrong,
  openCheckpoint,
  type Sha256,
  TILE_WIDTH,
  type TreeHead,
  tilesOf,
  toBase64,
  verifyByWebCrypto,
  verifyConsistency,
  verifyInclusion,
} from '../../src/codec/merkle/index.js';
import { sha256 as digest } from '../../src/foundation/index.js';
import { auditNoteKey, type Token } from '../../src/tokens/index.js';
import type { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { eachDatabase, liftKept } from '../support/database.js';
import { logOn, logToken, ORIGIN } from '../support/log-lab.js';

const sha256: Sha256 = (bytes) => digest(bytes);
const undo: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
});

const memoryToken = async (): Promise<MemoryToken> => (await logToken(undo)).token;

const opened = async (token: Token, note: string) => {
  const checkpoint = await openCheckpoint(sha256, verifyByWebCrypto, note, auditNoteKey(ORIGIN, await token.signingKey('audit')));
  if (isWrong(checkpoint)) throw new Error(checkpoint.wrong);
  return checkpoint;
};

describe('checkpoints', () => {
  eachDatabase((open) => {
    test('each covers all entries, is signed by the token, and extends the one before; every entry is proved in it', async () => {
      const { storage } = await open();
      const token = await memoryToken();
      const { book, checkpoints, append, tree } = logOn(storage, token);
      await expect(book.checkpoint()).rejects.toMatchObject({ code: 'checkpoint-missing' });
      let before: TreeHead = { size: 0, root: new Uint8Array() };
      for (const count of [1, 2, 253, 1, 300, 7]) {
        await append(count);
        await checkpoints.publish();
        const head = await opened(token, await book.checkpoint());
        expect(head.size).toBe(before.size + count);
        expect(verifyConsistency(sha256, before, head, await book.tiles.consistency(before.size, head.size))).toBe(true);
        before = head;
      }
      const bodies = await storage.all<{ body: string }>('SELECT body FROM audit_entries ORDER BY idx');
      for (const index of [0, 1, 255, 256, 511, 512, 563]) {
        const leaf = hashLeaf(sha256, Buffer.from(bodies[index]?.body ?? ''));
        expect(verifyInclusion(sha256, index, leaf, before, await book.tiles.inclusion(index, before.size))).toBe(true);
      }
      for (const tile of tilesOf(before.size)) expect(await book.tile(tile)).toHaveLength(tile.width * 32);
      await append(1);
      await expect(book.tile({ level: 0, index: 2, width: 53 })).rejects.toMatchObject({ code: 'tile-unknown' });
      expect((await tree.state()).size).toBe(564);
      expect(await book.tile({ level: 0, index: 0, width: TILE_WIDTH })).toEqual(
        Buffer.concat(bodies.slice(0, 256).map(({ body }) => hashLeaf(sha256, Buffer.from(body)))),
      );
    });

    test('two nodes on one log sign one line of heads, without a false alarm', async () => {
      const database = await open();
      const token = await memoryToken();
      const nodes = [logOn(database.storage, token), logOn(database.storage, token)];
      for (let round = 0; round < 12; round += 1)
        await Promise.all(
          nodes.map(async ({ append, checkpoints }) => {
            await append(round);
            await checkpoints.publish().catch(() => undefined);
          }),
        );
      for (const { checkpoints, standing, book } of nodes) {
        await checkpoints.publish();
        expect(standing.breach).toBeUndefined();
        expect(await opened(token, await book.checkpoint())).toMatchObject({ size: 132 });
      }
    });

    test('what was signed and not kept (a crash between) is signed again, and is no second head', async () => {
      const { storage } = await open();
      const token = await memoryToken();
      const node = logOn(storage, token);
      await node.append(5);
      const lost: typeof token.signHead = async (ask) => {
        await token.signHead(ask);
        throw new Error('the process is gone');
      };
      const crashing = logOn(storage, { auditHead: () => token.auditHead(), signHead: lost });
      await expect(crashing.checkpoints.publish()).rejects.toThrow('gone');
      await node.checkpoints.publish();
      expect(await opened(token, await node.book.checkpoint())).toMatchObject({ size: 5 });
      expect(node.standing.breach).toBeUndefined();
    });

    test('an older database is found out at once; nothing is released, everything else goes on', async () => {
      const database = await open();
      const token = await memoryToken();
      const node = logOn(database.storage, token);
      await node.append(5);
      await node.checkpoints.publish();
      await database.tamper(
        `${liftKept(database.kind)}
         DELETE FROM audit_entries WHERE idx > 2;
         UPDATE audit_tree SET size = 0, signed = 0, note = NULL, root = ${database.kind === 'sqlite' ? "X''" : "''"}, frontier = ${database.kind === 'sqlite' ? "X''" : "''"}`,
      );
      const restored = logOn(database.storage, token);
      await restored.checkpoints.publish();
      expect(restored.standing.breach).toMatchObject({ code: 'audit-rolled-back', known: { size: 5 } });
      for (const action of ['key.deliver', 'key.decrypt', 'recovery.release'] as const) {
        const release = { action, outcome: 'done', actor: { kind: 'device' } } as const;
        await expect(database.storage.write((unit) => restored.log.append(unit, release))).rejects.toMatchObject({
          kind: 'unavailable',
          code: 'audit-rolled-back',
        });
      }
      await restored.append(1);
      // Grown again beyond what was signed, with other entries: still found out.
      const grown = logOn(database.storage, token);
      await grown.append(4);
      await grown.checkpoints.publish();
      expect(grown.standing.breach).toMatchObject({ code: 'audit-forked' });
    });

    test.each([
      ['entries that are gone from its end', 'DELETE FROM audit_entries WHERE idx > 2'],
      [
        'an entry beyond its end',
        "INSERT INTO audit_entries (idx, leaf, body, time, action, outcome) SELECT 99, leaf, body, time, 'x', 'done' FROM audit_entries WHERE idx = 1",
      ],
    ])('a log with a hole, of %s, is not signed and releases nothing', async (_, attack) => {
      const database = await open();
      const token = await memoryToken();
      const node = logOn(database.storage, token);
      await node.append(5);
      await node.checkpoints.publish();
      await database.tamper(`${liftKept(database.kind)} ${attack}`);
      await node.append(3);
      await node.checkpoints.publish();
      expect(await token.auditHead()).toMatchObject({ size: 5 });
      expect(node.standing.breach).toMatchObject({ code: 'audit-forked', words: expect.stringContaining('entries are gone') });
      const release = { action: 'key.deliver', outcome: 'done', actor: { kind: 'device' } } as const;
      await expect(database.storage.write((unit) => node.log.append(unit, release))).rejects.toMatchObject({ code: 'audit-forked' });
    });

    test('an older token beside a newer log is found out', async () => {
      const { storage } = await open();
      const token = await memoryToken();
      const node = logOn(storage, token);
      await node.append(5);
      await node.checkpoints.publish();
      const { root } = await node.tree.state();
      await node.append(2);
      const older = logOn(storage, { auditHead: async () => null, signHead: () => Promise.reject(new Error('never asked')) });
      await older.checkpoints.publish();
      expect(older.standing.breach).toMatchObject({ code: 'audit-token-older', known: { size: 5, root: toBase64(root) } });
    });
  });
});

describe('the token process', () => {
  const head = (size: number, fill: number) => ({ origin: ORIGIN, size, root: toBase64(Buffer.alloc(32, fill)) });
  const nothing = { origin: ORIGIN, size: 0, root: '' };

  test('signs no second head, whoever asks: a stale node, a restored copy, a rewritten log', async () => {
    const token = await memoryToken();
    expect(await token.auditHead()).toBeNull();
    await token.signHead({ from: nothing, to: head(1, 1), proof: [] });
    const ask = (from: ReturnType<typeof head>, to: ReturnType<typeof head>, proof: Buffer[] = []) => token.signHead({ from, to, proof });
    await expect(ask(nothing, head(1, 2))).rejects.toMatchObject({ code: 'head-stale' }); // a rewritten log
    await expect(ask(head(1, 1), head(1, 2))).rejects.toMatchObject({ code: 'head-forked' });
    await expect(ask(head(1, 1), head(2, 2))).rejects.toMatchObject({ code: 'head-forked' });
    await expect(ask(head(1, 1), { ...head(1, 1), origin: 'other.example' })).rejects.toMatchObject({ code: 'head-forked' });
    await expect(ask({ ...nothing, origin: 'other.example' }, { ...head(1, 1), origin: 'other.example' })).rejects.toMatchObject({
      code: 'head-stale',
    });
    await expect(ask(head(2, 2), head(2, 2))).rejects.toMatchObject({ code: 'head-stale' }); // a restored copy that had gone on
    expect(await token.auditHead()).toEqual(head(1, 1));
    await ask(head(1, 1), head(1, 1));
    await expect(token.signHead({ from: nothing, to: { ...head(1, 1), origin: 'a b' }, proof: [] })).rejects.toMatchObject({
      code: 'token-ask-malformed',
    });
  });

  test('of two nodes that ask at once from the same head, one gets its signature', async () => {
    const token = await memoryToken();
    const asks = await Promise.allSettled([1, 2, 3, 4].map((fill) => token.signHead({ from: nothing, to: head(3, fill), proof: [] })));
    expect(asks.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });
});
