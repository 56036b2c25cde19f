import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { hashLeaf, noteKeyDigest, parseCheckpoint, parseNote, toBase64 } from '../../src/codec/merkle/index.js';
import { newId, SystemClock } from '../../src/foundation/index.js';
import { HsmError } from '../../src/tokens/hsm.js';
import * as journals from '../../src/tokens/journal.js';
import { hashOf, logKey } from '../../src/tokens/log-signatures.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import { Keeper } from '../../src/tokens/process/keeper.js';
import type { Lane } from '../../src/tokens/process/lane.js';
import type { Pkcs11Owner } from '../../src/tokens/process/pkcs11-owner.js';
import { SuccessorKeys } from '../../src/tokens/process/successor-keys.js';
import type { Order, Reply } from '../../src/tokens/process/workman.js';
import type { AuditHead } from '../../src/tokens/token.js';
import { guardOff } from '../support/guard-off.js';
import { eventually } from './process-house.js';

const clock = new SystemClock();
const origin = 'localhost/v1/audit';
const URLS = { crl: 'http://localhost/crl/x.crl', issuer: 'http://localhost/ca/x.cer' };
const head = (size: number): AuditHead => ({ origin, size, root: toBase64(Buffer.alloc(32, size)) });

describe('a signing key takes over from another', () => {
  let folder: string;
  let journal: journals.Journal;
  const opened = async ({ Journal }: typeof journals, name: string) => {
    Journal.create(join(folder, name));
    journal = await Journal.open(join(folder, name), clock);
    return journal;
  };
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ekms-successor-'));
    await opened(journals, 'journal');
  });
  afterEach(async () => {
    await journal.close();
    rmSync(folder, { recursive: true });
  });

  /** Keys 1 and 2 of everything, as two tokens. `away` makes the refreshing fail, as a token does that went away. */
  const keys = (away: { now: boolean }) => {
    const hsms = [new MemoryHsm(), new MemoryHsm()].map((hsm) => Object.assign(hsm, { close: () => undefined }));
    const owner = {
      session: (serving: { audit?: number; mail?: number } = {}) => hsms[Math.max(serving.audit ?? 1, serving.mail ?? 1) - 1],
      numbersOf: () => [1, 2],
      makeKey: () => undefined,
    } as unknown as Pkcs11Owner; // what the verbs below use of it
    let refreshed = 0;
    const refresh = async () => {
      if (away.now) throw new HsmError('token-down', 'away');
      refreshed++;
    };
    const successors = new SuccessorKeys({
      settings: { state: folder } as never, // no more of them is read
      state: { journal, canary: Buffer.alloc(0), authorities: {} as never }, // no certificate is asked for
      ...{ owner, clock, alone: (act) => act(), refresh },
    });
    const entry = JSON.stringify({
      action: 'audit.key',
      outcome: 'done',
      facts: { key: noteKeyDigest(hashOf, logKey(hsms[1] as MemoryHsm, origin)) },
    });
    const first: AuditHead = { origin, size: 1, root: toBase64(hashLeaf(hashOf, Buffer.from(entry))) };
    return { successors, refreshed: () => refreshed, first, announcement: { index: 0, entry, proof: [] } };
  };

  test('while the disk is busy the former key signs no head beyond the one at which both signed', async () => {
    const sizes = async (at: journals.Journal) => {
      const { successors, first, announcement } = keys({ now: false });
      await at.admit([{ kind: 'head', from: { ...first, size: 0, root: '' }, to: first, by: 1 }]);
      // Something is owed to the disk, and a head that the former key has signed already asks to leave.
      const busy = at.block(newId());
      const succeeding = successors.succeedAudit(2, first, announcement);
      await Promise.resolve();
      const later = at.admit([{ kind: 'head', from: first, to: head(2), by: 1 }]);
      const [, took, left] = await Promise.allSettled([busy, succeeding, later]);
      const note = at.successions[0]?.note ?? '';
      return { both: parseCheckpoint(parseNote(note)?.text ?? '')?.size, took, left, last: at.auditHead?.size };
    };
    expect(await sizes(journal)).toMatchObject({
      took: { status: 'fulfilled' },
      left: { status: 'rejected', reason: { code: 'head-stale' } },
      last: 1,
    });
    await journal.close();
    const off = guardOff<typeof journals>({
      file: 'src/tokens/journal.ts',
      guard: "    this.require({ kind: 'head', from: head, to: head, by });\n",
      instead: "    await this.admit([{ kind: 'head', from: head, to: head, by }]);\n",
    });
    expect(await sizes(await opened(off, 'two-steps'))).toMatchObject({ left: { status: 'fulfilled' }, last: 2 });
  });

  test('whoever asks again after the token was lost in between has every session find the new key', async () => {
    const away = { now: true };
    const { successors, refreshed, first, announcement } = keys(away);
    await expect(successors.succeed('mail', 2, URLS)).rejects.toMatchObject({ code: 'token-down' });
    away.now = false;
    await successors.succeed('mail', 2, URLS);
    expect(refreshed()).toBe(1);
    await journal.admit([{ kind: 'head', from: { ...first, size: 0, root: '' }, to: first, by: 1 }]);
    away.now = true;
    await expect(successors.succeedAudit(2, first, announcement)).rejects.toMatchObject({ code: 'token-down' });
    away.now = false;
    await successors.succeedAudit(2, first, announcement);
    expect(refreshed()).toBe(2);
  });

  test('whoever asks again after the disk was full is answered when it is written', async () => {
    const { successors, first, announcement } = keys({ now: false });
    await journal.admit([{ kind: 'head', from: { ...first, size: 0, root: '' }, to: first, by: 1 }]);
    const { file } = journal as unknown as { file: { datasync: () => Promise<void> } };
    const sync = file.datasync.bind(file);
    file.datasync = () => Promise.reject(new Error('ENOSPC'));
    for (let i = 0; i < 2; i++)
      await expect(successors.succeedAudit(2, first, announcement)).rejects.toMatchObject({ code: 'token-unavailable' });
    file.datasync = sync;
    await successors.succeedAudit(2, first, announcement);
    const reopened = await journals.Journal.open(join(folder, 'journal'), clock);
    expect(reopened.successions).toHaveLength(1);
    await reopened.close();
  });
});

describe('the keeper of the token', () => {
  type Answer = (order: Order) => Reply;
  const done: Reply = { kind: 'done', claims: [], body: '' };
  const lane = (stuck: number, answer: Answer = () => done) => {
    const asked: { what: string; limit: number }[] = [];
    const ask = async (order: Order, limit: number) => {
      asked.push({ what: order.do, limit });
      return answer(order);
    };
    const workmen = [{ ask, load: 1, end: async () => undefined }];
    // What a keeper uses of one.
    return { asked, lane: { workmen, stuck, waiting: 0, pause: () => undefined, resume: () => undefined } as unknown as Lane };
  };
  const owner = { begin: () => undefined, end: () => undefined };

  test('waits for a refresh as long as the job in hand may take, in each lane', async () => {
    const [quick, slow] = [lane(20_000), lane(180_000)];
    const keeper = new Keeper(
      owner,
      [quick.lane, slow.lane],
      () => ({}) as never,
      () => undefined,
    );
    await keeper.start(() => undefined);
    await keeper.refresh();
    await keeper.stop();
    for (const what of ['refresh', 'close']) {
      expect(quick.asked.find((each) => each.what === what)?.limit).toBeGreaterThan(20_000);
      expect(slow.asked.find((each) => each.what === what)?.limit).toBeGreaterThan(180_000);
    }
  });

  test('looks at the keys anew when the token is found again, and is not ready before it has', async () => {
    let isAway = false;
    const { lane: only } = lane(1000, ({ do: what }) =>
      isAway && what === 'refresh' ? { kind: 'hsm', code: 'token-down', message: 'away' } : done,
    );
    let looks = 0;
    let fails = 0;
    const keeper = new Keeper(
      owner,
      [only],
      () => ({}) as never,
      () => {
        if (fails-- > 0) throw new HsmError('token-down', 'away');
        looks++;
      },
    );
    await keeper.start(() => undefined);
    isAway = true;
    await expect(keeper.refresh()).rejects.toMatchObject({ code: 'token-unavailable' });
    const before = looks;
    await eventually(async () => keeper.health.state === 'ready', 5000);
    expect(looks).toBe(before + 1);
    isAway = false;
    fails = 2; // at the refresh, and at the first try to find it again
    await expect(keeper.refresh()).rejects.toMatchObject({ code: 'token-unavailable' });
    expect(keeper.health.state).toBe('down');
    await eventually(async () => keeper.health.state === 'ready', 5000);
    expect({ looks, fails }).toEqual({ looks: before + 2, fails: -1 });
    await keeper.stop();
  });
});
