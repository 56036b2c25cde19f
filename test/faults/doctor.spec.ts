import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Finding } from '../../src/commands/finding.js';
import { Appliance } from '../support/appliance.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

describe('ekms doctor', () => {
  let appliance: Appliance;
  beforeAll(async () => {
    appliance = await Appliance.open();
    await appliance.act('pool.fill', { count: 2 });
    await keysOf(appliance, await enrolDevice(appliance, 'alice@corp.example'));
  }, 120_000);
  afterAll(() => appliance?.close(), 60_000);

  async function findings(...args: string[]): Promise<{ status: number; of: (check: string) => Finding | undefined; verdicts: string[] }> {
    const { status, stdout } = await appliance.ekms('doctor', '--json', ...args);
    const { findings: all } = JSON.parse(stdout) as { findings: Finding[] }; // its own format
    return {
      status,
      of: (check) => all.find((one) => one.check === check),
      verdicts: all.map(({ check, verdict }) => `${verdict} ${check}`),
    };
  }

  test('says of a running appliance what is for evaluation only, and that a PIN beside its token is bad', async () => {
    const { status, verdicts, of } = await findings();
    expect(status).toBe(1);
    expect(verdicts.filter((one) => one.startsWith('bad'))).toEqual(['bad PIN', 'bad custody', 'bad two persons']);
    expect(verdicts).toEqual(
      expect.arrayContaining([
        'warn mail',
        'warn second proof',
        'warn token software',
        'warn token foreign-wrapping-key',
        'good token kek',
        'good log',
        'good keys',
      ]),
    );
    expect(of('token unwrap-template')?.words).toContain('CKA_UNWRAP_TEMPLATE');
    expect(of('log and tables')?.words).toMatch(/^\d+ entries/);
  }, 60_000);

  test('tells a person, one line each, and by its exit status', async () => {
    const { status, stdout, stderr } = await appliance.ekms('doctor');
    expect(status).toBe(1);
    expect(stdout).toMatch(/^BAD {3}PIN: the PIN lies on the disk/m);
    expect(stderr).toBe('ekms: 3 findings are bad (doctor-bad)\n');
    expect(await appliance.ekms('doctor', '--data')).toMatchObject({ status: 0, stderr: '' });
    chmodSync(appliance.path, 0o750);
    expect((await appliance.ekms('doctor')).stdout).toMatch(/^BAD {3}home: others on this machine may enter .* \(mode 750\).*chmod 700/m);
    chmodSync(appliance.path, 0o700);
  }, 60_000);

  test('works by itself where no appliance is up, and takes a PIN that is handed over at start for good', async () => {
    await appliance.stop();
    // systemd.exec(5), LoadCredential=: a folder of memory, named by the environment.
    const folder = mkdtempSync(join(tmpdir(), 'ekms-credentials-'));
    process.env['CREDENTIALS_DIRECTORY'] = folder;
    try {
      renameSync(appliance.file('pin'), join(folder, 'pin'));
      appliance.configure({ domains: ['corp.example'], keys: { bits: 2048 }, token: { pinFile: join(folder, 'pin') } });
      const { status, verdicts } = await findings();
      expect({ status, bad: verdicts.filter((one) => one.startsWith('bad')) }).toEqual({
        status: 1,
        bad: ['bad custody', 'bad two persons'],
      });
      expect(verdicts).toContain('good PIN');
      writeFileSync(join(folder, 'pin'), 'not the PIN\n');
      chmodSync(join(folder, 'pin'), 0o600);
      const wrong = await findings();
      expect(wrong.status).toBe(1);
      expect(wrong.of('start')).toMatchObject({ verdict: 'bad', words: expect.stringContaining('pin-refused') });
    } finally {
      delete process.env['CREDENTIALS_DIRECTORY'];
      rmSync(folder, { recursive: true, force: true });
    }
  }, 60_000);
});
