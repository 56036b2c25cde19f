import { expect, test } from '@jest/globals';
import { hashLeaf } from '../../src/codec/merkle/index.js';
import * as knownLog from '../../src/custody/known-log.js';
import { entriesOf, exportOf, type Files, rootOf, Signer, sha256, sourceOf } from '../audit/tampering.js';
import { dice } from '../faults/dice.js';
import { type Guard, guardOff } from '../support/guard-off.js';

/** The first 300 of 400 entries are in the backup. */
const IN_BACKUP = 300;
const signer = new Signer();
const spki = (of: Signer) => Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), of.key.publicKey]);
const custody = { keys: [{ label: 'ekms/sign/audit', kind: 'ed25519', publicKey: spki(signer) }] } as never;
const entries = entriesOf(400, dice(1));
const other = entriesOf(400, dice(2), entries.slice(0, 290), 'other');
const noteOf = (of: readonly string[], by = signer) => by.note(of.length, rootOf(of));
const storage = (of: readonly string[]) => ({
  all: async (_: string, [from = 0]: number[] = []) =>
    of.slice(from, from + 4_096).map((entry, n) => ({ idx: from + n, leaf: Buffer.from(hashLeaf(sha256, Buffer.from(entry))) })),
});

/** What a restore of the backup finds with this head and this tail: the code of its refusal, or how much is lost and whether all of that is known. */
async function found(
  { heads = [] as string[], files, isCopy = false }: { heads?: string[]; files?: Files; isCopy?: boolean },
  of: typeof knownLog = knownLog,
): Promise<string> {
  try {
    const known = await of.readKnownLog({ heads, tail: files && sourceOf(files), isCopy }, custody, IN_BACKUP);
    await of.holdAgainst(storage(entries.slice(0, IN_BACKUP)) as never, known.heads);
    return `${known.lost} lost${known.isComplete ? ', all known' : ''}`;
  } catch (error) {
    return (error as { code: string }).code;
  }
}
const without = (guard: string, instead: string) =>
  guardOff<typeof knownLog>({ file: 'src/custody/known-log.ts', guard, instead } satisfies Guard);

test('a head says how much is lost, a tail up to a head that is as new says all of it', async () => {
  expect(await found({ heads: [noteOf(entries)] })).toBe('100 lost');
  expect(await found({ files: exportOf(entries, noteOf(entries)) })).toBe('100 lost');
  expect(await found({ heads: [noteOf(entries)], files: exportOf(entries, noteOf(entries)) })).toBe('100 lost, all known');
  expect(await found({ heads: [noteOf(entries.slice(0, 200))], files: exportOf(entries, noteOf(entries)) })).toBe('100 lost');
});

test('a copy that follows the log may be behind a head: that is lost, and the copy never says that all is known; of another history it is refused', async () => {
  const behind = exportOf(entries.slice(0, 350), noteOf(entries.slice(0, 350)));
  expect(await found({ heads: [noteOf(entries)], files: behind, isCopy: true })).toBe('100 lost');
  expect(await found({ heads: [noteOf(entries)], files: exportOf(entries, noteOf(entries)), isCopy: true })).toBe('100 lost');
  expect(await found({ heads: [noteOf(other.slice(0, 340))], files: behind, isCopy: true })).toBe('tail-damaged');
});

test('a head that another appliance signed is refused; with the guard off it counts', async () => {
  const foreign = { heads: [noteOf(entries, new Signer())] };
  expect(await found(foreign)).toBe('head-foreign');
  const unsigned = without(
    'await openCheckpoint(sha256, verifyByWebCrypto, note, key);',
    "parseCheckpoint(parseNote(note)?.text ?? '') ?? { wrong: '' };",
  );
  expect(await found(foreign, unsigned)).toBe('100 lost');
});

test('a head, or a tail, of another history of this very appliance is refused; with the guard off it is taken', async () => {
  const head = { heads: [noteOf(other.slice(0, 295))] };
  const tail = { files: exportOf(other, noteOf(other)) };
  for (const forked of [head, tail]) {
    expect(await found(forked)).toBe('head-forked');
    expect(
      await found(forked, without('if (!sameHash(due.shift()?.root ?? new Uint8Array(), tree.root()))', 'due.shift(); if (false)')),
    ).toMatch(/lost/);
  }
});

test('a tail with a changed entry, or cut before a remembered head, is refused; with the guard off what it says is done again', async () => {
  const bent = [...entries.slice(0, 399), (entries[399] ?? '').replace('key.deliver', 'app.revoke')];
  const changed = { files: exportOf(bent, noteOf(entries), entries) };
  const cut = { heads: [noteOf(entries)], files: exportOf(entries.slice(0, 350), noteOf(entries.slice(0, 350))) };
  for (const damaged of [changed, cut]) {
    expect(await found(damaged)).toBe('tail-damaged');
    expect(await found(damaged, without('if (first) throw', 'if (false) throw'))).toMatch(/lost/);
  }
});

test('pruned entries are held against a head by their tile', async () => {
  const all = entries.map((entry) => Buffer.from(hashLeaf(sha256, Buffer.from(entry))));
  const pruned = {
    all: async (sql: string, [from = 0]: number[] = []) =>
      sql.includes('audit_tiles')
        ? [{ hashes: Buffer.concat(all.slice(256 * from, 256 * from + 256)) }]
        : all.slice(Math.max(from, 256)).map((leaf, n) => ({ idx: Math.max(from, 256) + n, leaf })),
  } as never;
  const heads = [100, 256, 400].map((size) => ({ size, root: rootOf(entries.slice(0, size)) }));
  await knownLog.holdAgainst(pruned, heads);
  for (const [n, { size }] of heads.entries()) {
    const forked = heads.with(n, { size, root: rootOf(other.slice(0, size - 1)) });
    await expect(knownLog.holdAgainst(pruned, forked)).rejects.toMatchObject({ code: 'head-forked' });
  }
});
