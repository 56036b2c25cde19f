import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { EscrowJournal, prepareEscrow, readEscrow } from '../../src/custody/escrow-journal.js';
import type { StoredKey } from '../../src/keys/index.js';

/** What a line says is not looked at here. */
const unsealed = { sealBytes: async (bytes: Uint8Array) => Buffer.from(bytes), openBytes: async (bytes: Uint8Array) => Buffer.from(bytes) };
const key = (n: number) => ({ sealed: { record: { id: `key ${n}`, version: n }, mac: Buffer.from([n]) } }) as unknown as StoredKey;

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-escrow-'));
  await prepareEscrow(folder, folder, true);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('lines told at once are all there when they were said to be, in the order of telling', async () => {
  const journal = new EscrowJournal(folder, unsealed);
  const told = Array.from({ length: 200 }, (_, n) => n);
  await Promise.all(told.map((n) => journal.changed(key(n))));
  const { lines, unreadable } = await readEscrow(folder, unsealed);
  expect(unreadable).toBe(0);
  expect(lines.map((line) => (line.t === 'change' ? line.key.sealed.record.version : undefined))).toEqual(told);
});

test('while the place is away each of them hears so, and what comes after it is back is written', async () => {
  const journal = new EscrowJournal(folder, unsealed);
  rmSync(join(folder, 'ekms-escrow'));
  const tried = await Promise.allSettled([1, 2, 3].map((n) => journal.changed(key(n))));
  expect(tried.map((one) => (one.status === 'rejected' ? (one.reason as { code: string }).code : one.status))).toEqual(
    Array.from({ length: 3 }, () => 'second-place-away'),
  );
  await prepareEscrow(folder, folder, true);
  await journal.changed(key(4));
  const { lines } = await readEscrow(folder, unsealed);
  expect(lines).toMatchObject([{ t: 'change', key: { sealed: { record: { version: 4 } } } }]);
});

test('a journal longer than any text may be is read to its end', async () => {
  await new EscrowJournal(folder, unsealed).changed(key(1));
  // Damaged lines of a MiB each, of which the file system keeps little more than the ends.
  const file = openSync(join(folder, 'escrow.journal'), 'r+');
  for (let at = 1; at <= 544; at++) writeSync(file, '\n', at * 2 ** 20);
  closeSync(file);
  await new EscrowJournal(folder, unsealed).changed(key(2));
  const { lines, unreadable } = await readEscrow(folder, unsealed);
  expect(unreadable).toBe(544);
  expect(lines.map((line) => (line.t === 'change' ? line.key.sealed.record.version : undefined))).toEqual([1, 2]);
});
