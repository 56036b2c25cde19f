import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { run } from '../../src/demo/programs.js';
import { Appliance } from '../support/appliance.js';

const READER = resolve(__dirname, '../interop/read_audit_log.py');

describe('an exported log', () => {
  let appliance: Appliance;
  beforeAll(async () => {
    appliance = await Appliance.open();
    // Some more than one tile's worth of entries.
    for (let n = 0; n < 9; n += 1) await Promise.all(Array.from({ length: 30 }, () => appliance.act('pool.fill', { count: 0 })));
  }, 60_000);
  afterAll(() => appliance?.close());

  test('is verified by the command, by a reader that shares nothing with us, and in place; one changed byte is named by all', async () => {
    const folder = appliance.beside('export');
    expect(await appliance.ekms('audit', 'export', folder)).toMatchObject({ status: 0 });
    const key = appliance.file('audit.pub');
    const verified = await appliance.ekms('audit', 'verify', '--export', folder, '--key', key);
    expect(verified).toMatchObject({ status: 0 });
    expect(verified.stdout).toMatch(/^good {2}\d+ entries[\s\S]*later cuts cannot be excluded/);
    const foreign = await run('python3', [READER, folder, key], {});
    expect(foreign).toMatchObject({ status: 0 });
    expect(foreign.stdout).toMatch(/^whole: \d+ entries/);
    expect(await appliance.ekms('audit', 'verify', '--head', join(folder, 'checkpoint'))).toMatchObject({ status: 0 });

    const bundle = join(folder, 'tile/entries/000');
    expect(readdirSync(join(folder, 'tile/entries'))).toContain('000');
    writeFileSync(bundle, readFileSync(bundle, 'latin1').replace('"outcome":"done"', '"outcome":"dona"'), 'latin1');
    const damaged = await appliance.ekms('audit', 'verify', '--export', folder, '--key', key);
    expect(damaged.status).toBe(1);
    expect(damaged.stdout).toMatch(/^BAD {3}changed at entry 0: /);
    expect((await run('python3', [READER, folder, key], {})).status).toBe(1);
  }, 60_000);

  test('says who read the log', async () => {
    expect((await appliance.log(400)).filter(({ action }) => action === 'audit.read').length).toBeGreaterThan(0);
  });

  test('what is no key, no export or not empty is said', async () => {
    const folder = appliance.beside('other');
    expect(await appliance.ekms('audit', 'verify', '--export', folder)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/export-missing/),
    });
    expect(await appliance.ekms('audit', 'verify', '--key', appliance.file('ca.pem'))).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/audit-key-missing/),
    });
    expect(await appliance.ekms('audit', 'export', appliance.path)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/export-exists/),
    });
  });
});
