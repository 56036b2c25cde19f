import 'reflect-metadata';
import { generateKeyPairSync, sign } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { C2spWitness, FolderWitness, LogAcceptances, type Witness, Witnesses } from '../../src/audit/index.js';
import { encodeNoteKey, onlyKey, parseNoteKey } from '../../src/codec/merkle/index.js';
import { newId, type Storage, SystemClock, sha256 } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';
import { makeAuthorities } from '../../src/tokens/authorities.js';
import { acceptanceBytes, auditNoteKey, type LogAcceptance, type Token } from '../../src/tokens/index.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { Warden } from '../../src/tokens/warden.js';
import { C2spWitnessServer } from '../support/c2sp-witness.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { AUTHORITIES, logOn, logToken, ORIGIN, STARTED } from '../support/log-lab.js';

jest.setTimeout(30_000);
const clock = new SystemClock();
const PERSONS = ['Mona', 'Nils', 'Oscar'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const AGENTS = {
  quorum: 1, // two persons are needed all the same
  agents: PERSONS.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
};
const signedBy = (acceptance: LogAcceptance, ...names: string[]) =>
  PERSONS.filter(({ name }) => names.includes(name)).map(({ name, privateKey }) => ({
    agent: name,
    signature: sign(null, acceptanceBytes(acceptance), privateKey),
  }));

const undo: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
});

let folder: string;
let token: MemoryToken;
beforeEach(async () => {
  ({ folder, token } = await logToken(undo, AGENTS));
});

async function database(): Promise<Storage> {
  const storage = await openStorage({ url: `sqlite:${newId()}.db`, home: folder });
  undo.push(() => storage.close());
  return storage;
}

/** One start of an appliance over a database. */
function startOf(
  storage: Storage,
  witnesses: readonly Witness[],
  unreachable: 'serve' | 'wait' = 'serve',
  of: Pick<Token, 'auditHead' | 'signHead' | 'beginOrigin'> = token,
) {
  const node = logOn(storage, of, { first: () => all.first() });
  const { standing, log: audit, tree, checkpoints } = node;
  const { tiles } = node.book;
  const origin = async () => (await of.auditHead())?.origin ?? ORIGIN;
  const all = new Witnesses(
    { storage, audit, tree, tiles, standing, origin },
    { witnesses, unreachable, patienceSeconds: 0, everySeconds: 3_600 },
  );
  const settled: unknown[] = [];
  const acceptances = new LogAcceptances({
    ...{ storage, audit, tree, tiles, token: of, standing, clock, origin: ORIGIN },
    afterLoss: async (kept) => settled.push(kept),
    agents: async () => undefined,
    named: async () => {},
  });
  const append = async (count: number) => {
    for (let n = 0; n < count; n += 1) await storage.write((unit) => audit.append(unit, STARTED));
  };
  const release = () => storage.write((unit) => audit.append(unit, { action: 'key.deliver', outcome: 'done', actor: { kind: 'device' } }));
  return { standing, tree, witnesses: all, checkpoints, acceptances, append, release, settled };
}

const folderWitness = () =>
  new FolderWitness('vault', join(folder, 'vault'), async (origin) => onlyKey(auditNoteKey(origin, await token.signingKey('audit'))));

/** A token whose journal was put back to before everything: it signs what this database says, again from the beginning. */
async function olderToken(): Promise<Pick<Token, 'auditHead' | 'signHead' | 'beginOrigin' | 'signingKey'>> {
  const older = await MemoryToken.open(join(folder, 'older'), AUTHORITIES, clock, AGENTS);
  undo.push(() => older.close());
  Object.assign(older.hsm, { sign: token.hsm.sign.bind(token.hsm), publicKey: token.hsm.publicKey.bind(token.hsm) });
  return older;
}

const logOf = async () => ({ origin: ORIGIN, publicKey: (await token.signingKey('audit')).publicKey.subarray(-32) });
async function c2spWitness(): Promise<{ server: C2spWitnessServer; client: () => Witness }> {
  const server = await C2spWitnessServer.open([await logOf()]);
  undo.push(() => server.close());
  const key = parseNoteKey((bytes) => sha256(bytes), server.key);
  if (!key) throw new Error('its key is none');
  return { server, client: () => new C2spWitness({ name: 'w1', url: server.url, key }) };
}

/** Another appliance that remembers heads of this log. */
async function otherAppliance(): Promise<() => Witness> {
  const log = encodeNoteKey(sha256, auditNoteKey(ORIGIN, await token.signingKey('audit')));
  const other = await HouseInProcess.open({ settings: { witnessing: { logs: [log] } } });
  undo.push(() => other.close());
  const key = parseNoteKey(sha256, readFileSync(join(other.house.configuration.home, 'witness.pub'), 'utf8').trim());
  if (!key) throw new Error('its key is none');
  return () => new C2spWitness({ name: 'w2', url: `https://127.0.0.1:${other.port}/v1/witness`, key, ca: other.root });
}

describe.each(['folder', 'c2sp', 'ekms'] as const)('a readable witness (%s)', (kind) => {
  const open = async (): Promise<() => Witness> =>
    kind === 'folder' ? folderWitness : kind === 'c2sp' ? (await c2spWitness()).client : otherAppliance();

  test('sees each head of a whole log, over many starts', async () => {
    const storage = await database();
    const witness = await open();
    for (const count of [1, 4, 300, 2]) {
      const start = startOf(storage, [witness()]);
      await start.append(count);
      await start.checkpoints.publish();
      await start.witnesses.look();
      await start.witnesses.look();
      expect(start.witnesses.states).toMatchObject([{ state: 'agrees' }]);
      await expect(start.release()).resolves.toBeDefined();
    }
  });

  test('database and token put back together: found before anything is signed or released; without the witness nobody would know', async () => {
    const witness = await open();
    const seen = startOf(await database(), [witness()]);
    await seen.append(7);
    await seen.checkpoints.publish();
    await seen.witnesses.look();

    const older = await database();
    const its = await olderToken();
    const before = startOf(older, [], 'serve', its);
    await before.append(3);
    await before.checkpoints.publish();
    const notes = await older.all('SELECT note FROM audit_tree');

    const restored = startOf(older, [witness()], 'serve', its);
    await expect(restored.release()).rejects.toMatchObject({ code: 'audit-unwitnessed' });
    await restored.checkpoints.publish();
    expect(restored.standing.breach).toMatchObject({ code: 'audit-rolled-back', known: { size: 7 } });
    await expect(restored.release()).rejects.toMatchObject({ code: 'audit-rolled-back' });
    expect(await older.all('SELECT note FROM audit_tree')).toEqual(notes);

    // Gone on beyond what the witness has seen, with other entries.
    const unseen = startOf(older, [], 'serve', its);
    await unseen.append(9);
    await unseen.checkpoints.publish();
    expect(unseen.standing.breach).toBeUndefined();
    await unseen.release();
    const found = startOf(older, [witness()]);
    await found.witnesses.first();
    expect(found.standing.breach).toMatchObject({ code: 'audit-forked', known: { size: 7 } });
    await expect(found.release()).rejects.toMatchObject({ code: 'audit-forked' });
  });

  test('of two nodes, one with an old view of the head is no false alarm', async () => {
    const storage = await database();
    const witness = await open();
    const [one, two] = [startOf(storage, [witness()]), startOf(storage, [witness()])];
    for (let round = 0; round < 5; round += 1) {
      await one.append(2);
      await Promise.all([one.checkpoints.publish(), two.checkpoints.publish()]);
      await Promise.all([one.witnesses.look(), two.witnesses.look()]);
    }
    expect([one, two].map(({ standing }) => standing.breach)).toEqual([undefined, undefined]);
    expect(two.witnesses.states).toMatchObject([{ state: 'agrees' }]);
  });
});

describe('a witness that is not reached', () => {
  const away = () => {
    writeFileSync(join(folder, 'file'), '');
    return new FolderWitness('vault', join(folder, 'file'), async (origin) =>
      onlyKey(auditNoteKey(origin, await token.signingKey('audit'))),
    );
  };

  test('serve: keys go out, and its absence is an entry', async () => {
    const storage = await database();
    const start = startOf(storage, [away()]);
    await start.checkpoints.publish();
    await start.release();
    expect(start.witnesses.states).toMatchObject([{ state: 'away' }]);
    expect(await storage.all("SELECT body FROM audit_entries WHERE action = 'witness.state'")).toHaveLength(1);
  });

  test('wait: nothing is released or signed until one is there', async () => {
    const storage = await database();
    const start = startOf(storage, [away()], 'wait');
    await start.append(2);
    await start.checkpoints.publish();
    await expect(start.release()).rejects.toMatchObject({ code: 'audit-unwitnessed' });
    expect((await start.tree.state()).note).toBeNull();
    rmSync(join(folder, 'file'));
    await start.witnesses.look();
    await start.checkpoints.publish();
    await start.release();
    expect((await start.tree.state()).note).not.toBeNull();
    // It goes again, long after the start: the same holds.
    renameSync(join(folder, 'file'), join(folder, 'elsewhere'));
    away();
    await start.witnesses.look();
    await expect(start.release()).rejects.toMatchObject({ code: 'audit-unwitnessed' });
    rmSync(join(folder, 'file'));
    renameSync(join(folder, 'elsewhere'), join(folder, 'file'));
    await start.witnesses.look();
    await start.release();
  });

  test('a yes without its signature is none; a refusal says what to do; a note that the log never signed is no memory', async () => {
    const storage = await database();
    const { server, client } = await c2spWitness();
    const start = startOf(storage, [client()]);
    await start.append(1);
    await start.checkpoints.publish();
    server.lies = true;
    await start.witnesses.look();
    expect(start.witnesses.states).toMatchObject([{ state: 'away', reason: expect.stringContaining('did not sign') }]);
    server.lies = false;
    const stranger = await C2spWitnessServer.open([]);
    undo.push(() => stranger.close());
    const key = parseNoteKey((bytes) => sha256(bytes), stranger.key);
    if (!key) throw new Error('its key is none');
    const unknown = startOf(storage, [new C2spWitness({ name: 'w2', url: stranger.url, key })]);
    await unknown.witnesses.look();
    expect(unknown.witnesses.states).toMatchObject([{ state: 'away', reason: expect.stringContaining('does not know this log') }]);

    const vault = startOf(storage, [folderWitness()]);
    await vault.witnesses.look();
    const [own = ''] = readdirSync(join(folder, 'vault'));
    writeFileSync(
      join(folder, 'vault', own, '9999999999999999'),
      `${ORIGIN}\n9999999999999999\n${'A'.repeat(43)}=\n\n— ${ORIGIN} AAAAAAAA\n`,
    );
    await vault.witnesses.look();
    expect(vault.standing.breach).toBeUndefined();
    expect(vault.witnesses.states).toMatchObject([{ state: 'agrees' }]);
  });
});

describe('accepting a log that was put back', () => {
  /** A database of 3 entries, a witness that has seen 7, and a token that is as old as the database. */
  async function putBack() {
    const seen = startOf(await database(), [folderWitness()]);
    await seen.append(7);
    await seen.checkpoints.publish();
    await seen.witnesses.look();
    const storage = await database();
    const older = await olderToken();
    const before = startOf(storage, [], 'serve', older);
    await before.append(3);
    await before.checkpoints.publish();
    const start = startOf(storage, [folderWitness()], 'serve', older);
    await start.checkpoints.publish();
    return { storage, start, older };
  }

  test('two persons’ signatures, which the token looks at itself; one, twice the same, or over another statement begin nothing', async () => {
    const { storage, start, older } = await putBack();
    const by = { kind: 'operator' } as const;
    const { acceptance } = await start.acceptances.ask();
    expect(acceptance).toMatchObject({ why: 'audit-rolled-back', signed: { size: 3 }, known: { size: 7 } });
    const refused: [ReturnType<typeof signedBy>, LogAcceptance?][] = [
      [[]],
      [signedBy(acceptance, 'Mona')],
      [[...signedBy(acceptance, 'Mona'), ...signedBy(acceptance, 'Mona')]],
      [signedBy({ ...acceptance, kept: { ...acceptance.kept, size: 1 } }, 'Mona', 'Nils')],
      [signedBy({ ...acceptance, expires: 1 }, 'Mona', 'Nils'), { ...acceptance, expires: 1 }],
    ];
    for (const [approvals, of = acceptance] of refused) {
      await expect(start.acceptances.accept(of, approvals, by)).rejects.toMatchObject({
        code: expect.stringMatching(/^recovery-(not-approved|expired)$/),
      });
      await expect(start.release()).rejects.toMatchObject({ code: 'audit-rolled-back' });
    }
    // A rewritten log does not extend what they signed; nor does an acceptance fit a token that has signed something else since.
    const otherTree = { ...acceptance, kept: { size: 2, root: acceptance.known.root } };
    await expect(start.acceptances.accept(otherTree, signedBy(otherTree, 'Mona', 'Nils'), by)).rejects.toMatchObject({
      code: 'head-forked',
    });
    const otherPast = { ...acceptance, signed: { ...acceptance.signed, size: 2 } };
    await expect(start.acceptances.accept(otherPast, signedBy(otherPast, 'Mona', 'Nils'), by)).rejects.toMatchObject({
      code: 'head-stale',
    });
    expect(start.settled).toEqual([]);

    const { origin } = await start.acceptances.accept(acceptance, signedBy(acceptance, 'Mona', 'Oscar'), by);
    expect(start.settled).toMatchObject([{ nothingLost: false }]);
    expect(await older.auditHead()).toMatchObject({ origin });
    await start.release();
    await start.checkpoints.publish();
    await start.witnesses.look();
    expect(start.witnesses.states).toMatchObject([{ state: 'agrees' }]);
    const entry = await storage.one<{ body: string }>(
      "SELECT body FROM audit_entries WHERE action = 'audit.accept' AND outcome = 'done' ORDER BY idx DESC LIMIT 1",
    );
    expect(JSON.parse(entry?.body ?? '')).toMatchObject({ facts: { from: ORIGIN, size: 7, lost: expect.any(Number) } });
    expect(await storage.all('SELECT id FROM intents')).toEqual([]);

    // The next start finds a whole log; the former name cannot be gone on with.
    const next = startOf(storage, [folderWitness()], 'serve', older);
    await next.checkpoints.publish();
    await next.release();
    const last = await older.auditHead();
    const former = { origin: ORIGIN, size: 9_000, root: acceptance.known.root };
    await expect(older.signHead({ from: last ?? former, to: former, proof: [] })).rejects.toMatchObject({ code: 'head-forked' });
    await expect(next.acceptances.ask()).rejects.toMatchObject({ code: 'log-whole' });
  });

  test('a crash after the token began the new log is finished at the next start; one before it is forgotten', async () => {
    const { storage, start, older } = await putBack();
    const { acceptance } = await start.acceptances.ask();
    const dies = {
      ...older,
      auditHead: () => older.auditHead(),
      signHead: older.signHead.bind(older),
      beginOrigin: async (ask: Parameters<Token['beginOrigin']>[0]) => {
        await older.beginOrigin(ask);
        throw new Error('the process is gone');
      },
    };
    const dying = startOf(storage, [folderWitness()], 'serve', dies);
    await dying.checkpoints.publish();
    await expect(dying.acceptances.accept(acceptance, signedBy(acceptance, 'Mona', 'Nils'), { kind: 'operator' })).rejects.toThrow('gone');
    const [intent] = await storage.all<{ id: string; body: string }>('SELECT id, body FROM intents');
    const next = startOf(storage, [folderWitness()], 'serve', older);
    await next.acceptances.settle(intent?.id ?? '', JSON.parse(intent?.body ?? '{}') as Record<string, string>);
    expect(next.settled).toHaveLength(1);
    await next.checkpoints.publish();
    await next.release();
    await next.acceptances.settle('none', { origin: 'never-begun' });
    expect(next.settled).toHaveLength(1);
  });

  test('the token process verifies the signatures itself: without that it would begin a second log for whoever asks', async () => {
    const hsm = new MemoryHsm();
    const authorities = await makeAuthorities(hsm, AUTHORITIES, clock.now());
    const kept = { size: 3, root: Buffer.alloc(32, 3).toString('base64') };
    const origin = `${ORIGIN}/2026-01-02-abcdef`;
    const signed = { origin: ORIGIN, ...kept };
    const known = { origin: ORIGIN, size: 7, root: '' };
    const acceptance = { v: 1, why: 'audit-rolled-back', signed, known, kept, origin, expires: Date.now() + 60_000 } as const;
    const ask = { acceptance, approvals: signedBy(acceptance, 'Mona'), to: { origin, ...kept }, proof: [] };
    await expect(new Warden(hsm, authorities, clock, AGENTS).run('beginOrigin', ask)).rejects.toMatchObject({
      code: 'recovery-not-approved',
    });
    const bare = guardOff<typeof import('../../src/tokens/warden.js')>({
      file: 'src/tokens/warden.ts',
      guard: 'requireAccepted(acceptance, approvals, agents, this.clock.now());',
      instead: '',
    });
    expect((await new bare.Warden(hsm, authorities, clock, AGENTS).run('beginOrigin', ask)).value).toContain(`${origin}\n3\n`);
  });
});
