import 'reflect-metadata';
import { hash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CHECKS, type LogReading, readUses } from '../../client/src/log/index.js';
import { EkmsClient, type KeyUses } from '../../client/src/sdk/index.js';
import type { KeptReceipt, KnownLog } from '../../client/src/store/index.js';
import { readCertificate } from '../../client/src/x509/index.js';
import { checkpointText, keyId, parseNoteKey, type Sha256, signatureLine } from '../../src/codec/merkle/index.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);
const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');

let house: HouseInProcess;
let alice: WireDevice;
let client: EkmsClient;
let key: string;
const receipts: (KeptReceipt & { at: string })[] = [];

const clientOf = ({ keys, certificates }: WireDevice) =>
  new EkmsClient({
    server: `https://localhost:${house.port}`,
    root: house.root,
    identity: { certificates, key: keys.identity.export({ type: 'pkcs8', format: 'pem' }).toString() },
  });

beforeAll(async () => {
  house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 1 } } } });
  alice = await enrolDevice(house, 'alice@corp.example');
  client = clientOf(alice);
  key = (await keysOf(house, alice))[0]?.id ?? '';
  for (let n = 0; n < 3; n += 1) {
    const { keys } = await client.keys();
    // The receipt of the second one was lost on the way: its use can only be missed by its number.
    for (const { id, receipt } of keys)
      if (receipt && n !== 1) receipts.push({ key: id, act: 'deliver', at: house.now().toISOString(), ...receipt });
  }
});
afterAll(async () => {
  client?.close();
  await house?.close();
});

interface Given {
  known?: KnownLog | undefined;
  bend?: (answer: KeyUses) => KeyUses | Promise<KeyUses>;
  checks?: typeof CHECKS;
}
const read = ({ known, bend = (answer) => answer, checks = CHECKS }: Given = {}): Promise<LogReading> =>
  readUses({
    client: { uses: async (ask) => bend(await client.uses(ask)) },
    root: readCertificate(house.root),
    held: [key],
    receipts,
    known,
    now: () => house.now(),
    checks,
  });
const kinds = ({ findings }: LogReading) => [...new Set(findings.map(({ kind }) => kind))].toSorted();
/** The check of this name says nothing. */
const without = (name: keyof typeof CHECKS): typeof CHECKS => ({ ...CHECKS, [name]: () => [] });
const delivered = ({ uses }: KeyUses) => uses.filter(({ entry }) => entry.includes('"action":"key.deliver"'));
const leaveOut = (n: number) => (answer: KeyUses) => ({ ...answer, uses: answer.uses.filter((use) => use !== delivered(answer).at(n)) });

/** A head of the log that its token never signed knowingly: by a copy of its key. */
function forgedHead(known: KnownLog, size: number): string {
  const noteKey = parseNoteKey(sha256, known.key);
  if (!noteKey) throw new Error('no key');
  const text = checkpointText({ origin: noteKey.name, size, root: Buffer.alloc(32, 7) });
  const signature = house.token.hsm.sign('audit', Buffer.from(text));
  return `${text}\n${signatureLine({ name: noteKey.name, keyId: keyId(sha256, noteKey), signature })}`;
}

describe('a person’s own uses', () => {
  test('are all there, counted from the first one, with where each came from; receipts and what was seen before are among them', async () => {
    const first = await read();
    expect(first.findings).toEqual([]);
    expect(first.uses.map(({ use }) => use)).toEqual(first.uses.map((_, n) => n + 1));
    expect(first.uses.filter(({ action }) => action === 'key.deliver')).toHaveLength(4);
    expect(first.uses.filter(({ network }) => network === '127.0.0.1').length).toBeGreaterThanOrEqual(4);
    const second = await read({ known: first.known });
    expect(second.findings).toEqual([]);
    expect(second.uses.length).toBe(first.uses.length + 1);
    expect(second.size).toBeGreaterThan(first.size);
  });

  test('a use that the server leaves out is missed by its number; with that guard off nobody would miss it', async () => {
    expect(kinds(await read({ bend: leaveOut(-2) }))).toEqual(['omitted']);
    expect(kinds(await read({ bend: leaveOut(-2), checks: without('counters') }))).toEqual([]);
  });

  test('a use of this device that the server leaves out is missed by its receipt too; what was seen before, by memory', async () => {
    const { known } = await read();
    expect(kinds(await read({ bend: leaveOut(-1), checks: without('counters') }))).toEqual(['omitted']);
    const all = (answer: KeyUses) => ({ ...answer, uses: answer.uses.slice(-1) });
    const only = (name: string) => Object.fromEntries(Object.entries(CHECKS).filter(([one]) => one === name));
    expect(kinds(await read({ known, bend: all, checks: only('remembered') }))).toEqual(['omitted']);
    expect(kinds(await read({ known, bend: all, checks: {} }))).toEqual([]);
  });

  test('the last uses, left out together with this reading, or an older reading shown again, are missed by the nonce', async () => {
    let earlier: KeyUses | undefined;
    await read({ bend: (answer) => (earlier = answer) });
    await client.keys(); // the use to be hidden; its receipt was lost
    const again = (): KeyUses =>
      earlier ?? { checkpoint: '', vouch: '', successions: [], consistency: null, uses: [], pruned: null, next: null };
    expect(kinds(await read({ bend: again }))).toEqual(['old']);
    expect(kinds(await read({ bend: again, checks: without('fresh') }))).toEqual([]);
    expect(kinds(await read({ bend: (answer) => ({ ...answer, uses: [] }) }))).toContain('omitted');
  });

  test('a counter that was set back in the database is in the log twice: the owner sees it', async () => {
    const { uses } = await read();
    const [before] = uses.slice(-2);
    await house.db.write((unit) =>
      unit.run('UPDATE key_uses SET uses = ?, last_leaf = ? WHERE key = ?', [
        before?.use ?? 0,
        Buffer.from(before?.leaf ?? '', 'base64url'),
        key,
      ]),
    );
    const found = await read();
    expect(kinds(found)).toEqual(['contradicted']);
    expect(kinds(await read({ checks: without('counters') }))).toEqual([]);
  });

  test.each([
    [
      'an entry that was changed',
      (answer: KeyUses) => mapped(answer, ({ entry, ...use }) => ({ ...use, entry: entry.replace('"done"', '"gone"') })),
    ],
    ['an entry under another index', (answer: KeyUses) => mapped(answer, ({ index, ...use }) => ({ ...use, index: index - 1 }))],
    ['an entry without its proof', (answer: KeyUses) => mapped(answer, (use) => ({ ...use, proof: [] }))],
    ['a head that nobody signed', (answer: KeyUses) => ({ ...answer, checkpoint: answer.checkpoint.replace(/\n\d+\n/, '\n99999\n') })],
    ['a key of the log that the token never vouched for', (answer: KeyUses) => ({ ...answer, vouch: bentEnd(answer.vouch) })],
  ])('%s is refused', async (_, bend) => {
    await expect(read({ bend })).rejects.toMatchObject({ kind: 'forbidden' });
  });

  test('a second history is refused: a head seen before that is not of this log’s past, or of more entries, or of another key', async () => {
    const { known, size } = await read();
    const seen = (checkpoint: string): Given => ({ known: { ...known, checkpoint } });
    await expect(read(seen(forgedHead(known, size - 2)))).rejects.toMatchObject({ code: 'log-forged', message: /second history/ });
    await expect(read(seen(forgedHead(known, size + 1_000)))).rejects.toMatchObject({ code: 'log-forged', message: /entries are gone/ });
    const proofless: Given['bend'] = (answer) => ({ ...answer, consistency: [] });
    await expect(read({ known, bend: proofless })).rejects.toMatchObject({ code: 'log-forged' });
    // The same head, not remembered: nothing tells.
    expect((await read()).size).toBeGreaterThan(size);
  });
});

const mapped = (answer: KeyUses, change: (use: KeyUses['uses'][number]) => KeyUses['uses'][number]): KeyUses => ({
  ...answer,
  uses: answer.uses.map((use) => (use === delivered(answer)[0] ? change(use) : use)),
});
const bentEnd = (jws: string) => `${jws.slice(0, -4)}${jws.endsWith('AAAA') ? 'BBBB' : 'AAAA'}`;
