import { appendFileSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { EscrowJournal, type EscrowLine, KeysInEscrow, prepareEscrow } from '../../src/custody/escrow-journal.js';
import type { GivenKey, StoredKey } from '../../src/keys/index.js';
import type { PoolRecord } from '../../src/tokens/index.js';
import { escrowLines } from '../support/escrow-lines.js';

/** What a line says is not looked at here. */
const unsealed = {
  sealBytes: async (bytes: Uint8Array) => Buffer.from(bytes),
  openBytes: async (bytes: Uint8Array) => Buffer.from(bytes),
  custody: async () => null,
};
const key = (n: number) => ({ sealed: { record: { id: `key ${n}`, version: n }, mac: Buffer.from([n]) } }) as unknown as StoredKey;

let folder: string;
const read = () => escrowLines(folder, unsealed);
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-escrow-'));
  await prepareEscrow(folder, folder, true);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('lines told at once are all there when they were said to be, in the order of telling', async () => {
  const journal = new EscrowJournal(folder, unsealed);
  const told = Array.from({ length: 200 }, (_, n) => n);
  await Promise.all(told.map((n) => journal.changed(key(n))));
  const { lines, unreadable } = await read();
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
  const { lines } = await read();
  expect(lines).toMatchObject([{ t: 'change', key: { sealed: { record: { version: 4 } } } }]);
});

test('a journal longer than any text may be is read to its end', async () => {
  await new EscrowJournal(folder, unsealed).changed(key(1));
  // Damaged lines of a MiB each, of which the file system keeps little more than the ends.
  const file = openSync(join(folder, 'escrow.journal'), 'r+');
  for (let at = 1; at <= 544; at++) writeSync(file, '\n', at * 2 ** 20);
  closeSync(file);
  await new EscrowJournal(folder, unsealed).changed(key(2));
  const { lines, unreadable } = await read();
  expect(unreadable).toBe(544);
  expect(lines.map((line) => (line.t === 'change' ? line.key.sealed.record.version : undefined))).toEqual([1, 2]);
});

test('what is kept of it is what comes back: no pair that nobody was given, one version of a key, no bytes but its own', async () => {
  const journal = new EscrowJournal(folder, unsealed);
  const bytes = (fill: number) => ({ publicKey: Buffer.alloc(422, fill), wrapped: Buffer.alloc(1_800, fill) });
  const version = (of: number) =>
    ({ sealed: { record: { id: 'one', version: of }, mac: Buffer.alloc(32) }, ...bytes(of) }) as unknown as StoredKey;
  const binding = { sealed: { record: {}, mac: Buffer.alloc(32) }, shown: '' } as unknown as GivenKey['binding'];
  await journal.born({ record: {} as PoolRecord, mac: Buffer.alloc(32) }, bytes(0));
  await journal.given({ n: 1, key: version(1), binding, certificate: Buffer.alloc(1_000) });
  await journal.changed(version(2));
  const found = new KeysInEscrow();
  for (const line of (await read()).lines) found.see(line);
  found.see({ t: 'of a later version' } as unknown as EscrowLine);
  expect([...found.given.keys()]).toEqual(['one']);
  expect(found.given.get('one')).not.toHaveProperty('key');
  const { sealed, publicKey, wrapped } = found.newestOf('one');
  expect(sealed.record.version).toBe(2);
  expect(wrapped).toEqual(Buffer.alloc(1_800, 2));
  const { certificate } = found.given.get('one') as GivenKey;
  for (const own of [sealed.mac, publicKey, wrapped, certificate]) expect(own.buffer.byteLength).toBeLessThan(own.length + 3);
});

test('a line in bad base64 is one that cannot be read, not half of one', async () => {
  await new EscrowJournal(folder, unsealed).changed(key(1));
  const whole = readFileSync(join(folder, 'escrow.journal'), 'latin1').trim();
  for (const bad of [`${whole}!`, whole.replace(/=*$/, '=A'), `${whole.slice(0, 8)} ${whole.slice(8)}`])
    appendFileSync(join(folder, 'escrow.journal'), `${bad}\n`);
  expect(await read()).toMatchObject({ lines: [{ t: 'change' }], unreadable: 3 });
});
