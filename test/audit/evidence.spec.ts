import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { PDFDocument } from 'pdf-lib';
import { exportFolder } from '../../src/audit/index.js';
import { type ExportSource, verifyEvidence } from '../../src/codec/audit-log/index.js';
import { type NoteKey, parseNoteKey, pureSha256, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import { dice } from '../faults/dice.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { sourceOf } from './tampering.js';

const folder = mkdtempSync(join(tmpdir(), 'ekms-evidence-'));
let house: HouseInProcess;
let key: NoteKey;
let files: Map<string, Uint8Array>;
let made: { name: string; entries: number; seal: number; zip: string };

beforeAll(async () => {
  house = await HouseInProcess.open({});
  // As it is on a desk: another program unpacks it.
  const log = async (subject: string, address: string) =>
    house.db.write((unit) =>
      house.house.audit.append(unit, {
        action: 'binding.begin',
        outcome: 'done',
        actor: { kind: 'operator', id: 'root' },
        subject,
        personal: { address },
      }),
    );
  for (let n = 0; n < 300; n += 1) await log(`s${n}`, n % 7 === 0 ? 'alice@corp.example' : `zoë${n}@corp.example`);
  await house.house.checkpoints.publish();
  made = (await house.act('audit.evidence', { person: 'alice@corp.example' })) as typeof made;
  writeFileSync(join(folder, 'pack.zip'), Buffer.from(made.zip, 'base64'));
  execFileSync('python3', ['-m', 'zipfile', '-e', join(folder, 'pack.zip'), join(folder, 'pack')]);
  key = parseNoteKey(pureSha256, readFileSync(join(house.house.configuration.home, 'audit.pub'), 'utf8').trim()) as NoteKey; // just written
  const source = exportFolder(join(folder, 'pack'));
  files = new Map();
  for (const path of await source.paths()) files.set(path, (await source.read(path)) ?? Buffer.alloc(0));
}, 60_000);
afterAll(async () => {
  await house?.close();
  rmSync(folder, { recursive: true, force: true });
});

const verdict = (source: ExportSource) => verifyEvidence(source, { sha256: pureSha256, verify: verifyByWebCrypto, key });

test('a pack holds what was asked for, with its values, and is verified without the appliance', async () => {
  const { damages, size } = await verdict(exportFolder(join(folder, 'pack')));
  expect(damages).toEqual([]);
  expect(size).toBeGreaterThan(made.seal);
  expect([...files.keys()]).toEqual(
    expect.arrayContaining(['README.txt', 'checkpoint', 'cover.pdf', 'entries.jsonl', 'manifest.json', 'policy.json', 'proofs.json']),
  );
  const lines = Buffer.from(files.get('entries.jsonl') ?? [])
    .toString('utf8')
    .trim()
    .split('\n');
  expect(lines).toHaveLength(43);
  expect(made.entries).toBe(43);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ values: [{ name: 'address', value: 'alice@corp.example' }] });
  expect((await PDFDocument.load(Buffer.from(files.get('cover.pdf') ?? []))).getPageCount()).toBeGreaterThan(1);
  expect(JSON.parse(Buffer.from(files.get('policy.json') ?? []).toString('utf8'))).toMatchObject({
    network: { version: expect.any(Number) },
    enrolment: {},
  });
});

test('one changed byte anywhere, a file more or less, or another key, is found', async () => {
  const roll = dice(11);
  let changed = 0;
  for (const [path, bytes] of files) {
    for (let n = 0; n < 12; n += 1) {
      const other = Uint8Array.from(bytes);
      const at = roll(bytes.length);
      other[at] = (other[at] ?? 0) ^ (1 << roll(8));
      const { damages } = await verdict(sourceOf(new Map(files).set(path, other)));
      expect({ path, at, found: damages.length > 0 }).toEqual({ path, at, found: true });
      changed += 1;
    }
    const without = new Map(files);
    without.delete(path);
    expect((await verdict(sourceOf(without))).damages).not.toEqual([]);
  }
  expect((await verdict(sourceOf(new Map(files).set('more.txt', Buffer.from('x'))))).damages).toMatchObject([{ kind: 'foreign' }]);
  const stranger = { ...key, publicKey: Buffer.alloc(key.publicKey.length, 1) };
  const { damages } = await verifyEvidence(sourceOf(files), { sha256: pureSha256, verify: verifyByWebCrypto, key: stranger });
  expect(damages[0]).toMatchObject({ kind: 'checkpoint' });
  console.log(`bytes changed: ${changed}, all found`);
});

test('an entry that was left out of the pack, or put in, is found', async () => {
  const text = Buffer.from(files.get('entries.jsonl') ?? []).toString('utf8');
  const [first = '', ...rest] = text.split('\n');
  expect(
    (await verdict(sourceOf(new Map(files).set('entries.jsonl', Buffer.from(rest.join('\n')))))).damages.map(({ kind }) => kind),
  ).toEqual(expect.arrayContaining(['changed', 'missing']));
  const forged = first.replace('binding.begin', 'binding.end');
  expect((await verdict(sourceOf(new Map(files).set('entries.jsonl', Buffer.from([forged, ...rest].join('\n')))))).damages).not.toEqual([]);
});

test('what nothing is found for makes no pack', async () => {
  await expect(house.act('audit.evidence', { person: 'nobody@corp.example' })).rejects.toMatchObject({ code: 'evidence-empty' });
});
