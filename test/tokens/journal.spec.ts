import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import files from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { newId, SystemClock } from '../../src/foundation/index.js';
import { Journal } from '../../src/tokens/journal.js';
import { guardOff } from '../support/guard-off.js';

const clock = new SystemClock();
const RSA = 'rsa-3072';

describe('the journal of the token process', () => {
  let folder: string;
  let path: string;
  let open: Journal[];
  const reopen = async (at = path, when = clock) => {
    const journal = await Journal.open(at, when);
    open.push(journal);
    return journal;
  };
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'ekms-journal-'));
    path = join(folder, 'journal');
    open = [];
    Journal.create(path);
  });
  afterEach(async () => {
    for (const journal of open) await journal.close();
    rmSync(folder, { recursive: true });
  });

  test('knows after a restart all that it confirmed before', async () => {
    const first = await reopen();
    const [key, device, freed, enrolment] = [newId(), newId(), newId(), newId()];
    const expires = Date.now() + 60_000;
    await first.admit([
      { kind: 'version', id: key, version: 3 },
      { kind: 'give', of: RSA, n: 5 },
      { kind: 'spend', id: enrolment, expires },
    ]);
    await first.block(device);
    await first.block(freed);
    await first.unblock(freed);
    expect(first.bootstrapIsOver).toBe(false);
    await first.endBootstrap();
    const pair = await first.nextPair();

    const second = await reopen();
    await expect(second.admit([{ kind: 'version', id: key, version: 2 }])).rejects.toMatchObject({
      kind: 'forbidden',
      code: 'record-stale',
    });
    await second.admit([{ kind: 'version', id: key, version: 3 }]);
    await expect(second.admit([{ kind: 'open', id: device, code: 'device-blocked' }])).rejects.toMatchObject({ code: 'device-blocked' });
    await second.admit([{ kind: 'open', id: freed, code: 'device-blocked' }]);
    for (const n of [4, 5])
      await expect(second.admit([{ kind: 'give', of: RSA, n }])).rejects.toMatchObject({ kind: 'conflict', code: 'pair-spent' });
    await expect(second.admit([{ kind: 'spend', id: enrolment, expires }])).rejects.toMatchObject({ code: 'enrolment-spent' });
    expect(second.bootstrapIsOver).toBe(true);
    expect(await second.nextPair()).toBeGreaterThan(pair);
  });

  test('gives numbers by kind of key, so that one kind does not spend the pairs of another', async () => {
    const journal = await reopen();
    await journal.admit([{ kind: 'give', of: 'rsa-3072', n: 9 }]);
    await journal.admit([{ kind: 'give', of: 'rsa-2048', n: 3 }]);
    await expect(journal.admit([{ kind: 'give', of: 'rsa-2048', n: 3 }])).rejects.toMatchObject({ code: 'pair-spent' });
  });

  test('lets one of many through when all ask at once', async () => {
    const journal = await reopen();
    const asked = await Promise.allSettled(Array.from({ length: 50 }, () => journal.admit([{ kind: 'give', of: RSA, n: 1 }])));
    expect(asked.filter((each) => each.status === 'fulfilled')).toHaveLength(1);
    const numbers = await Promise.all(Array.from({ length: 200 }, () => journal.nextPair()));
    expect(new Set(numbers).size).toBe(200);
  });

  test('confirms nothing before it is on disk, and one fsync serves all who wait', async () => {
    const journal = await reopen();
    const file = (journal as unknown as { file: { datasync: () => Promise<void> } }).file;
    const sync = file.datasync.bind(file);
    let syncs = 0;
    let finish: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      finish = resolve;
    });
    file.datasync = () => held.then(() => syncs++).then(sync);
    let confirmed = 0;
    const all = Promise.all(Array.from({ length: 20 }, () => journal.block(newId()).then(() => confirmed++)));
    await new Promise((done) => setTimeout(done, 50));
    expect(confirmed).toBe(0);
    finish();
    await all;
    expect([confirmed, syncs]).toEqual([20, 1]);
  });

  test('a block that is confirmed while a release waits for the disk holds for that release', async () => {
    const journal = await reopen();
    const device = newId();
    const release = journal.admit([
      { kind: 'version', id: newId(), version: 2 },
      { kind: 'open', id: device, code: 'device-blocked' },
    ]);
    const blocked = journal.block(device);
    await expect(release).rejects.toMatchObject({ code: 'device-blocked' });
    await blocked;
  });

  test('a record in its first version costs no line', async () => {
    const journal = await reopen();
    const { size } = statSync(path);
    await journal.admit([{ kind: 'version', id: newId(), version: 1 }]);
    expect(statSync(path).size).toBe(size);
  });

  test('cuts off what a crash left unfinished, wherever the crash came', async () => {
    const journal = await reopen();
    const [device, later] = [newId(), newId()];
    await journal.block(device);
    const whole = statSync(path).size;
    await journal.block(later);
    const full = readFileSync(path);
    for (let cut = whole; cut < full.length; cut++) {
      const torn = join(folder, 'torn');
      writeFileSync(torn, full.subarray(0, cut));
      const reopened = await reopen(torn);
      await expect(reopened.admit([{ kind: 'open', id: device, code: 'blocked' }])).rejects.toMatchObject({ code: 'blocked' });
      await reopened.block(newId()); // and it can be written on
      await reopen(torn);
    }
    appendFileSync(path, Buffer.alloc(500)); // blocks that were never filled
    await expect((await reopen()).admit([{ kind: 'open', id: later, code: 'blocked' }])).rejects.toMatchObject({ code: 'blocked' });
    expect(readFileSync(path)).toEqual(full);
  });

  test('refuses to start on any other damage, and says what to do', async () => {
    const journal = await reopen();
    for (let i = 0; i < 5; i++) await journal.block(newId());
    const whole = readFileSync(path);
    const lines = whole.toString().split('\n');
    const bad = [
      Buffer.alloc(0),
      Buffer.from('\n'),
      Buffer.from(lines.toSpliced(2, 1).join('\n')), // a line taken out
      Buffer.from(lines.toSpliced(0, 1).join('\n')),
      Buffer.from([lines[0], lines[2], lines[1], ...lines.slice(3)].join('\n')), // two changed places
      Buffer.concat([whole, whole]),
      Buffer.concat([whole, Buffer.from('x\n')]),
    ];
    for (let at = 0; at < whole.length - 1; at += 7) {
      const flipped = Buffer.from(whole);
      flipped[at] = (flipped[at] ?? 0) ^ 4;
      bad.push(flipped);
    }
    for (const bytes of bad) {
      const damaged = join(folder, 'damaged');
      writeFileSync(damaged, bytes);
      await expect(reopen(damaged)).rejects.toMatchObject({
        kind: 'misconfigured',
        code: 'journal-damaged',
        message: expect.stringMatching(/whole copy/),
      });
      expect(readFileSync(damaged)).toEqual(bytes);
    }
    await expect(reopen(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'journal-missing' });
    expect(() => Journal.create(path)).toThrow(/EEXIST/);
  });

  test('keeps what it owes when the disk refuses, lets nothing out meanwhile, and catches up by itself', async () => {
    const journal = await reopen();
    const file = (journal as unknown as { file: { write: unknown } }).file;
    const { write } = file;
    file.write = () => Promise.reject(new Error('ENOSPC'));
    const device = newId();
    await expect(journal.block(device)).rejects.toMatchObject({ kind: 'unavailable', code: 'token-unavailable' });
    await expect(journal.admit([{ kind: 'version', id: newId(), version: 1 }])).rejects.toMatchObject({ code: 'token-unavailable' });
    file.write = write;
    await journal.admit([{ kind: 'version', id: newId(), version: 1 }]);
    await expect((await reopen()).admit([{ kind: 'open', id: device, code: 'blocked' }])).rejects.toMatchObject({ code: 'blocked' });
  });

  test('a long journal is rewritten as what it still says', async () => {
    const journal = await reopen();
    const [device, enrolment] = [newId(), newId()];
    await journal.block(device);
    await journal.admit([{ kind: 'spend', id: enrolment, expires: Date.now() }]);
    const n = await journal.nextPair();
    const others = Array.from({ length: 30_000 }, newId);
    await Promise.all(others.map((id) => journal.block(id)));
    await Promise.all(others.map((id) => journal.unblock(id)));
    // Some 6 MiB were written; the file was made short on the way, and is again where it is opened.
    expect(statSync(path).size).toBeLessThan(4 * 2 ** 20);
    await journal.unblock(newId());
    const second = await reopen();
    expect(statSync(path).size).toBeLessThan(4 * 2 ** 20);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    for (const again of [second, await reopen()]) {
      await expect(again.admit([{ kind: 'open', id: device, code: 'blocked' }])).rejects.toMatchObject({ code: 'blocked' });
      await expect(again.admit([{ kind: 'spend', id: enrolment, expires: 0 }])).rejects.toMatchObject({ code: 'enrolment-spent' });
    }
    expect(await second.nextPair()).toBeGreaterThan(n);

    const muchLater = { now: () => new Date(Date.now() + 30 * 86_400_000) };
    await (await reopen(path, muchLater)).admit([{ kind: 'spend', id: enrolment, expires: 0 }]);
  });

  describe('made shorter while it is written', () => {
    /** With a limit that is met at once. */
    const short = () =>
      guardOff<{ Journal: typeof Journal }>({
        file: 'src/tokens/journal.ts',
        guard: 'const COMPACT_ABOVE = 4 * 2 ** 20;',
        instead: 'const COMPACT_ABOVE = 2 ** 12;',
      }).Journal;
    const noise = async (journal: Journal) => {
      const others = Array.from({ length: 40 }, newId);
      await Promise.all(others.map((id) => journal.block(id)));
      await Promise.all(others.map((id) => journal.unblock(id)));
    };

    test('what is confirmed afterwards is on the disk, also where the short file could not be opened', async () => {
      const journal = await short().open(path, clock);
      open.push(journal);
      const refused = jest.spyOn(files, 'open').mockRejectedValueOnce(Object.assign(new Error(), { code: 'EMFILE' }));
      await noise(journal).catch(() => undefined);
      expect(refused).toHaveBeenCalled();
      refused.mockRestore();
      const device = newId();
      await journal.block(device);
      await expect((await reopen()).admit([{ kind: 'open', id: device, code: 'blocked' }])).rejects.toMatchObject({ code: 'blocked' });
    });

    test('a key that takes over in that moment takes over once', async () => {
      const journal = await short().open(path, clock);
      open.push(journal);
      // The disk takes its time over the batch in which the file becomes long: meanwhile a key takes over.
      const { file } = journal as unknown as { file: { datasync(): Promise<void> } };
      const sync = file.datasync.bind(file);
      let succeeded: Promise<void> | undefined;
      file.datasync = async () => {
        if (readFileSync(path).length > 2 ** 12) succeeded ??= journal.succeed({ name: 'delivery', n: 2 });
        await sync();
      };
      await noise(journal);
      await succeeded;
      expect(succeeded).toBeDefined();
      expect((await reopen()).successions.map(({ name, n }) => `${name} ${n}`)).toEqual(['delivery 2']);
    });
  });
});
