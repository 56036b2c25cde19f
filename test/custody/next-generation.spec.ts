import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type * as doctor from '../../src/commands/doctor.js';
import { examine } from '../../src/commands/doctor.js';
import { CUSTODY_SETTINGS, remember } from '../../src/custody/backups.js';
import { EscrowJournal, packageBeside, prepareEscrow } from '../../src/custody/escrow-journal.js';
import * as rotations from '../../src/custody/token-key-rotation.js';
import { Fault, SystemClock } from '../../src/foundation/index.js';
import type { GivenCertificate, SecondPlace, StoredKey } from '../../src/keys/index.js';
import {
  type CustodyPackage,
  completed,
  encodePackage,
  heldGenerations,
  Journal,
  parsePackage,
  type Token,
} from '../../src/tokens/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';

const bytes = (fill: number) => Buffer.alloc(4, fill);
const envelope = { key: bytes(1) };
const kek = (n: number, key = 1) => ({ label: `ekms/kek/${n}`, kind: 'kek' as const, envelope: { key: bytes(key) } });
const authority = (name: string, n: number, certificate?: Buffer) => ({
  ...{ label: `ekms/sign/${name}/${n}`, kind: 'p384' as const, publicKey: bytes(n), envelope },
  ...(certificate ? { certificate } : {}),
});
const records = { label: 'ekms/records', kind: 'generic' as const, envelope };

/** Of the custodians of this ceremony. */
function packageOf(ceremony: number, ...more: CustodyPackage['keys']): CustodyPackage {
  const share = { name: 'Ada', recipient: 'paper', digest: bytes(ceremony) };
  const der = bytes(9);
  return parsePackage(
    encodePackage({
      package: {
        ...{ type: 'ekms-custody', v: 1, ceremony: Buffer.alloc(16, ceremony), created: '', threshold: 2, shares: [share, share] },
        custodyKey: { publicKey: bytes(ceremony), wrapped: bytes(ceremony) },
        backup: { recipient: 'age1x', envelope },
        certificates: { root: der, people: der, devices: der, infrastructure: der, delivery: der },
        keys: [records, kek(1), ...more],
      },
      mac: bytes(0),
    }),
  ).package;
}
const labels = ({ keys }: CustodyPackage) => keys.map(({ label }) => label).slice(2);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-generation-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

type Told = Pick<SecondPlace, 'requireKnown' | 'succeeding'>;

describe('an authority is followed by another', () => {
  test('only once the second place has all that a restore needs of it; with the guard off it serves and nobody would know it', async () => {
    const ekms = await HouseInProcess.open();
    try {
      const away: Told = {
        requireKnown: async () => {},
        succeeding: () => Promise.reject(new Fault('unavailable', 'second-place-away', 'away', 30)),
      };
      const { storage, audit, token, clock, authorities } = ekms.house;
      const at = 'http://ekms.example/x';
      const urls = { root: { crl: `${at}.crl`, issuer: `${at}.cer` } } as never; // no other is asked for
      const rotation = ({ TokenKeyRotation }: typeof rotations, second: Told) =>
        new TokenKeyRotation({ storage, audit, token, clock, authorities, second, urls, ready: () => authorities.refresh() });
      const serving = async () => (await token.authorities()).find(({ name, state }) => name === 'people' && state === 'serving')?.n;
      const by = { kind: 'operator' } as const;
      await expect(rotation(rotations, away).rotate('people', by)).rejects.toMatchObject({ code: 'second-place-away' });
      expect(await serving()).toBe(1);
      // Told again when it is back, it is the one that was begun.
      const told: string[] = [];
      const asked: number[] = [];
      const back: Told = {
        requireKnown: async () => void asked.push((await serving()) ?? 0),
        succeeding: async (name: string, n: number) => void told.push(`${name} ${n} while ${await serving()} serves`),
      };
      expect(await rotation(rotations, back).rotate('people', by)).toEqual({ name: 'people', n: 2 });
      expect([told, asked, await serving()]).toEqual([['people 2 while 1 serves'], [1], 2]);
      const off = guardOff<typeof rotations>({
        file: 'src/custody/token-key-rotation.ts',
        guard: '      await second.succeeding(authority, n);\n',
        instead: '',
      });
      await rotation(off, away).rotate('people', by);
      expect(await serving()).toBe(3);
    } finally {
      await ekms.close();
    }
  });
});

describe('what the second place knows more than a backup', () => {
  test('are key-encryption keys, and generations after the newest that the backup knows; nothing else comes and nothing goes', () => {
    const known = packageOf(1, authority('people', 2, bytes(2)), authority('devices', 2), authority('audit', 2));
    const later = packageOf(
      1,
      kek(2),
      ...[authority('people', 3, bytes(3)), authority('devices', 2, bytes(4)), authority('mail', 2), authority('infrastructure', 2)],
    );
    const both = completed(known, later);
    // devices-2 was cut off before its certificate when the backup was made; that of infrastructure is still.
    expect(labels(both)).toEqual(['ekms/sign/people/2', 'ekms/sign/audit/2', 'ekms/kek/2', 'ekms/sign/people/3', 'ekms/sign/devices/2']);
    expect(heldGenerations(both).map(({ name, n }) => `${name} ${n}`)).toEqual(['people 2', 'devices 2', 'people 3']);
    expect(completed(both, later)).toBe(both);
    // An older one: people-2 was retired since, and is not brought back.
    expect(labels(completed(packageOf(1, authority('people', 3, bytes(3))), packageOf(1, authority('people', 2, bytes(2)))))).toEqual([
      'ekms/sign/people/3',
    ]);
  });

  test('takes over in the journal where the backup’s does not say so, once', async () => {
    const clock = new SystemClock();
    Journal.create(join(folder, 'journal'));
    const journal = await Journal.open(join(folder, 'journal'), clock);
    await journal.succeed({ name: 'people', n: 2, certificate: bytes(2) });
    const copy = journal.copy();
    await journal.close();
    const generations = heldGenerations(packageOf(1, ...[2, 3].map((n) => authority('people', n, bytes(n)))));
    const { taken } = await Journal.restore(join(folder, 'restored'), copy, clock, { generations });
    expect(taken).toEqual([{ name: 'people', n: 3, certificate: bytes(3) }]);
    const restored = await Journal.open(join(folder, 'restored'), clock);
    expect(restored.successions.map(({ n, certificate }) => [n, certificate])).toEqual([
      [2, bytes(2)],
      [3, bytes(3)],
    ]);
    await restored.close();
  });
});

/** A token whose package is what `now` says at that moment; what it seals is not looked at. */
const tokenOf = (now: () => CustodyPackage): Pick<Token, 'sealBytes' | 'custody'> => ({
  sealBytes: async (some: Uint8Array) => Buffer.from(some),
  custody: async () => encodePackage({ package: now(), mac: bytes(0) }),
});

test('the package of former custodians stays at the second place when others took over, for backups that their shares open', async () => {
  await prepareEscrow(folder, folder, true);
  let now = packageOf(1, authority('people', 2, bytes(2)));
  await new EscrowJournal(
    folder,
    tokenOf(() => now),
  ).succeeding('people', 2);
  now = packageOf(2, authority('people', 2, bytes(2)), authority('people', 3, bytes(3)));
  const journal = new EscrowJournal(
    folder,
    tokenOf(() => now),
  );
  await expect(journal.succeeding('people', 4)).rejects.toMatchObject({ code: 'second-place-away' });
  await journal.succeeding('people', 3);
  const beside = (ceremony: number) => packageBeside(folder, packageOf(ceremony))?.package;
  expect([1, 2, 3].map((ceremony) => heldGenerations(beside(ceremony) ?? { keys: [] }).length)).toEqual([1, 2, 0]);
  // Also where the newer one is gone, or cannot be read: then it is said.
  rmSync(join(folder, 'custody-package'));
  expect(beside(1)).toBeDefined();
  writeFileSync(join(folder, 'custody-package'), 'x');
  expect(() => beside(1)).toThrow(expect.objectContaining({ code: 'custody-package-malformed' }));
  await new EscrowJournal(
    folder,
    tokenOf(() => now),
  ).succeeding('people', 3);
  expect(heldGenerations(beside(2) ?? { keys: [] })).toHaveLength(2);
  // A token that was put back: what its later self brought stays, and nothing is born that only half of the keys would know.
  now = packageOf(2);
  const back = new EscrowJournal(
    folder,
    tokenOf(() => now),
  );
  await expect(back.succeeding('people', 2)).rejects.toMatchObject({ code: 'second-place-away' });
  expect(back.trouble).toMatch(/knows keys that the token does not/);
  expect(heldGenerations(beside(2) ?? { keys: [] })).toHaveLength(2);
  const { EscrowJournal: Unguarded } = guardOff<{ EscrowJournal: typeof EscrowJournal }>({
    file: 'src/custody/escrow-journal.ts',
    guard: '    if (now) this.#requireContained(now);\n',
    instead: '',
  });
  await expect(
    new Unguarded(
      folder,
      tokenOf(() => now),
    ).succeeding('people', 2),
  ).rejects.toMatchObject({ code: 'second-place-away' });
  expect(heldGenerations(beside(2) ?? { keys: [] })).toHaveLength(0);
});

describe('a token that was put back', () => {
  const change = (n: number) => ({ sealed: { record: { id: 'key', version: 1, kek: String(n) }, mac: bytes(n) } }) as unknown as StoredKey;
  const certificate = { key: 'key' } as unknown as GivenCertificate;
  const held = () => parsePackage(readFileSync(join(folder, 'custody-package'), 'utf8')).package;
  const code = (tried: Promise<unknown>) =>
    tried.then(
      () => 'done',
      (error: { code?: string }) => error.code ?? String(error),
    );
  beforeEach(() => prepareEscrow(folder, folder, true));

  test('makes no key under a name that its lost life gave, and one made all the same does not take that one’s place; with the guard off it does', async () => {
    let now = packageOf(1, kek(2, 2), authority('people', 2, bytes(2)));
    const journal = (of = { EscrowJournal }) =>
      new of.EscrowJournal(
        folder,
        tokenOf(() => now),
      );
    await journal().changed(change(2));
    expect(await code(journal().requireKnown('kek'))).toBe('done');
    // Before any is made: the next would be another kek/2.
    now = packageOf(1, authority('people', 2, bytes(2)));
    expect(await code(journal().requireKnown('kek'))).toBe('second-place-away');
    const back = journal();
    for (const other of [
      [kek(2, 3), authority('people', 2, bytes(2))],
      [kek(2, 2), { ...authority('people', 2, bytes(2)), envelope: { key: bytes(5) } }],
    ]) {
      now = packageOf(1, ...other);
      expect(await code(back.requireKnown('kek'))).toBe('second-place-away');
      expect(await code(back.changed(change(2)))).toBe('second-place-away');
      expect(await code(back.succeeding('people', 2))).toBe('second-place-away');
      // A line that is under no key is written; what stands in the way is told all the same.
      expect(await code(back.certified(certificate))).toBe('done');
      expect(back.trouble).toMatch(/custody-package knows keys .* escrow\.journal away together/);
    }
    expect(held().keys).toContainEqual(kek(2, 2));
    now = packageOf(1, kek(2, 2), authority('people', 2, bytes(2)), kek(3));
    expect(await code(back.changed(change(3)))).toBe('done');
    expect(back.trouble).toBeUndefined();
    expect(held().keys).toContainEqual(kek(3));

    now = packageOf(1, kek(2, 3), authority('people', 2, bytes(2)), kek(3));
    const off = guardOff<{ EscrowJournal: typeof EscrowJournal }>({
      file: 'src/custody/escrow-journal.ts',
      guard: '(contradicted(now, held).length > 0 || completed(now, held) !== now)',
      instead: 'false',
    });
    expect(await code(journal(off).changed(change(2)))).toBe('done');
    expect(held().keys).toContainEqual(kek(2, 3));
    // A restore takes neither for the other.
    const [before, after] = [packageOf(1, kek(2, 2)), held()];
    expect(() => completed(before, after)).toThrow(expect.objectContaining({ code: 'custody-package-other' }));
  });

  test('among the custodians of before a reissue finds what it lacks in the package that was put aside', async () => {
    let now = packageOf(1, kek(2, 2));
    const of = () =>
      new EscrowJournal(
        folder,
        tokenOf(() => now),
      );
    await of().changed(change(2));
    now = packageOf(2, kek(2, 4));
    await of().changed(change(2));
    now = packageOf(1, kek(2, 3));
    const back = of();
    expect(await code(back.changed(change(2)))).toBe('second-place-away');
    expect(back.trouble).toMatch(/custody-package-(01){16} knows/);
    // Restored by all that its own custodians had: others’ kek/3 has lines here, so the next is not to be called that.
    now = packageOf(2, kek(2, 4), kek(3, 4));
    await of().changed(change(3));
    now = packageOf(1, kek(2, 2));
    const restored = of();
    expect(await code(restored.changed(change(2)))).toBe('done');
    expect(await code(restored.requireKnown('authority'))).toBe('done');
    expect(await code(restored.requireKnown('kek'))).toBe('kek-name-taken');
    expect(restored.trouble).toBeUndefined();
    rmSync(join(folder, `custody-package-${'02'.repeat(16)}`));
    expect(await code(restored.requireKnown('kek'))).toBe('done');
  });

  test('a package that cannot be read is put aside, not written over', async () => {
    writeFileSync(join(folder, 'custody-package'), '{"package": cut');
    await new EscrowJournal(
      folder,
      tokenOf(() => packageOf(1)),
    ).changed(change(1));
    expect(held().keys).toContainEqual(kek(1));
    const [aside = ''] = readdirSync(folder).filter((name) => name.startsWith('custody-package-damaged-'));
    expect(readFileSync(join(folder, aside), 'utf8')).toBe('{"package": cut');
  });
});

test('of two nodes the one whose share was slow does not leave an older package there; without the second look it does', async () => {
  await prepareEscrow(folder, folder, true);
  const [older, newer] = [packageOf(1), packageOf(1, authority('people', 2, bytes(2)))];
  /** Asked first, it says what was so; the other node has written what came since by the time this one writes. */
  const slow = (of = { EscrowJournal }) => {
    const said = [older];
    return new of.EscrowJournal(
      folder,
      tokenOf(() => said.shift() ?? newer),
    );
  };
  const held = () => heldGenerations(parsePackage(readFileSync(join(folder, 'custody-package'), 'utf8')).package).length;
  const key = { sealed: { record: { id: 'key', version: 1, kek: '1' }, mac: bytes(1) } } as unknown as StoredKey;
  await slow().changed(key);
  expect(held()).toBe(1);
  rmSync(join(folder, 'custody-package'));
  const off = guardOff<{ EscrowJournal: typeof EscrowJournal }>({
    file: 'src/custody/escrow-journal.ts',
    guard: 'text !== written; text = await this.token.custody()',
    instead: 'text !== written; text = written ?? null',
  });
  await slow(off).changed(key);
  expect(held()).toBe(0);
});

test('doctor says that an authority is newer than the last backup while the second place lacks its certificate; by its former look it did not', async () => {
  await prepareEscrow(folder, folder, true);
  const ekms = await HouseInProcess.open({ settings: { durability: 'two', escrow: { directory: folder } } });
  try {
    await ekms.house.tokenKeys.rotate('people', { kind: 'operator' });
    await ekms.db.write((unit) => remember(unit, CUSTODY_SETTINGS.backup, { time: Date.now() - 86_400_000 }));
    const lies = (entry: CustodyPackage['keys'][number], isKnown = true) => {
      const text = encodePackage({ package: packageOf(1, entry), mac: bytes(0) });
      if (isKnown) ekms.token.custody = async () => text;
      writeFileSync(join(folder, 'custody-package'), text);
    };
    const newer = async (of: Pick<typeof doctor, 'examine'> = { examine }) =>
      (await of.examine(ekms.house)).filter(({ words }) => /people-2” is newer than the last backup/.test(words)).length;
    lies(authority('people', 2, bytes(2)));
    expect(await newer()).toBe(0);
    lies(authority('people', 2));
    expect(await newer()).toBe(1);
    const off = guardOff<typeof doctor>({
      file: 'src/commands/doctor.ts',
      guard: '!beside.has(name) &&',
      instead: "configuration.durability === 'one' &&",
    });
    expect(await newer(off)).toBe(0);
    // Of a token that was put back, though nothing was tried since the start.
    const ahead = async () =>
      (await examine(ekms.house)).filter(({ verdict, words }) => verdict === 'bad' && /knows keys that the token/.test(words));
    expect(await ahead()).toEqual([]);
    ekms.token.custody = async () => encodePackage({ package: packageOf(1), mac: bytes(0) });
    lies(authority('people', 2, bytes(2)), false);
    expect(await ahead()).toHaveLength(1);
    rmSync(join(folder, 'custody-package'));
    expect(await newer()).toBe(1);
    expect(await ahead()).toEqual([]);
  } finally {
    await ekms.close();
  }
});
