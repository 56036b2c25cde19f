import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { CustodyAppliance, exportedKeys } from '../support/ceremony.js';

jest.setTimeout(240_000);
const EKMS = resolve(__dirname, '../../dist/programs/main.js');

const onPostgres = process.env['EKMS_TEST_POSTGRES'] ? describe : describe.skip;
onPostgres('custody on PostgreSQL', () => {
  let ekms: CustodyAppliance;
  let shares: string[];
  let backup: string;

  beforeAll(async () => {
    ekms = await CustodyAppliance.hold({ database: 'postgres' });
    copyFileSync(ekms.file('ca.pem'), ekms.beside('ca.pem'));
    for (const person of ['alice', 'bob']) expect(await ekms.enroll(`${person}-1`, person)).toMatchObject({ status: 0 });
    const { file } = (await ekms.act('backup.create', {})) as { file: string };
    backup = ekms.beside('kept.ekms-backup');
    copyFileSync(file, backup);
    shares = ekms.shareLines().map((line, n) => {
      writeFileSync(ekms.beside(`s${n}`), `${line}\n`);
      return ekms.beside(`s${n}`);
    });
  });
  afterAll(() => ekms?.close());

  test('home and database gone: a restore that was killed goes on into the same new database, and every key is byte-equal', async () => {
    const before = [await exportedKeys(ekms, 'alice-1'), await exportedKeys(ekms, 'bob-1')];
    const configuration = JSON.parse(readFileSync(ekms.file('ekms.yaml'), 'utf8')) as object; // Home.configure wrote it
    await ekms.db.close();
    await ekms.stop();
    const url = await ekms.newDatabase();
    rmSync(ekms.path, { recursive: true });
    mkdirSync(ekms.path, { mode: 0o700 });
    writeFileSync(ekms.file('ekms.yaml'), JSON.stringify({ ...configuration, database: { url } }), { mode: 0o600 });

    const words = ['restore', backup, '--ca', ekms.beside('ca.pem'), '--share', shares[0] ?? '', shares[2] ?? ''];
    const first = spawn(process.execPath, [EKMS, ...words], {
      env: { ...process.env, EKMS_HOME: ekms.path },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    first.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.includes('applying the rules')) first.kill('SIGKILL');
    });
    await once(first, 'close');
    expect(said).toContain('applying the rules');

    const { status, stderr, stdout } = await ekms.ekms(...words);
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) });
    expect(JSON.parse(stdout)).toMatchObject({ keys: 2, devicesEnded: 2 });
    await ekms.start();
    for (const person of ['alice', 'bob'])
      expect(await ekms.enroll(`${person}-2`, person)).toMatchObject({ status: 0, stderr: expect.stringContaining('is enrolled') });
    expect([await exportedKeys(ekms, 'alice-2'), await exportedKeys(ekms, 'bob-2')]).toEqual(before);
    expect((await ekms.ekms('doctor', '--data')).stdout).not.toMatch(/^BAD {3}(?!custody)/m);
  });

  test('a database that holds somebody’s rows is refused and left as it is', async () => {
    await ekms.stop();
    const words = ['restore', backup, '--share', shares[0] ?? '', shares[1] ?? ''];
    const configuration = readFileSync(ekms.file('ekms.yaml'));
    rmSync(ekms.path, { recursive: true });
    mkdirSync(ekms.path, { mode: 0o700 });
    writeFileSync(ekms.file('ekms.yaml'), configuration, { mode: 0o600 });
    expect(await ekms.ekms(...words)).toMatchObject({ status: 1, stderr: expect.stringContaining('database-not-empty') });
  });
});
