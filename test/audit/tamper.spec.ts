import { describe, expect, test } from '@jest/globals';
import { verifyExport } from '../../src/codec/audit-log/index.js';
import { pureSha256, verifyByWebCrypto } from '../../src/codec/merkle/index.js';
import { dice } from '../faults/dice.js';
import { entriesOf, exportOf, falseAlarm, faultsOf, rootOf, Signer, sourceOf, TAMPERINGS, verdictOn } from './tampering.js';

const signer = new Signer();

describe('the offline verifier', () => {
  test.each(Object.keys(TAMPERINGS))('finds and places: %s', async (kind) => {
    const roll = dice(Object.keys(TAMPERINGS).indexOf(kind) + 1);
    const faults: string[] = [];
    for (let n = 0; n < 10; n += 1) faults.push(...(await faultsOf(kind, roll, signer)));
    expect(faults).toEqual([]);
  });

  test('raises no alarm on 100 clean logs', async () => {
    const roll = dice(7);
    const alarms: string[] = [];
    for (let n = 0; n < 100; n += 1) alarms.push(...[await falseAlarm(roll, signer)].filter((alarm) => alarm !== undefined));
    expect(alarms).toEqual([]);
  });

  test('every byte of an export is covered: any one changed, any file added or taken away, is found', async () => {
    const roll = dice(3);
    const entries = entriesOf(300, roll);
    const clean = exportOf(entries, signer.note(300, rootOf(entries)));
    for (const [path, bytes] of clean) {
      for (let n = 0; n < 12; n += 1) {
        const changed = Uint8Array.from(bytes);
        const at = roll(bytes.length);
        changed[at] = (changed[at] ?? 0) ^ (1 << roll(8));
        expect((await verdictOn(new Map(clean).set(path, changed), signer)).damages).not.toEqual([]);
      }
      const without = new Map(clean);
      without.delete(path);
      expect((await verdictOn(without, signer)).damages).not.toEqual([]);
      expect((await verdictOn(new Map(clean).set(path, Buffer.concat([bytes, Buffer.of(0)])), signer)).damages).not.toEqual([]);
    }
    expect((await verdictOn(new Map(clean).set('tile/2/000.p/1', Buffer.alloc(32)), signer)).damages).toMatchObject([{ kind: 'foreign' }]);
  });

  test('runs as it does in a browser: without Node, on a SHA-256 of its own', async () => {
    const entries = entriesOf(300, dice(4));
    const files = exportOf(entries, signer.note(300, rootOf(entries)));
    const parts = { sha256: pureSha256, verify: verifyByWebCrypto, key: signer.key };
    expect(await verifyExport(sourceOf(files), parts)).toMatchObject({ damages: [], size: 300 });
  });
});
