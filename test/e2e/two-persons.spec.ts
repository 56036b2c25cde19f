import { existsSync, readFileSync, statSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Appliance } from '../support/appliance.js';
import { TestAdministrator } from '../support/officers.js';

jest.setTimeout(90_000);
const databases = process.env['EKMS_TEST_POSTGRES'] ? (['sqlite', 'postgres'] as const) : (['sqlite'] as const);

describe.each(databases)('the command line of a real appliance after bootstrap, on %s', (database) => {
  let appliance: Appliance;
  let officers: TestAdministrator[] = [];
  const approve = async (id: string) => {
    for (const officer of officers) expect((await officer.approve(id)).status).toBe(200);
  };
  beforeAll(async () => {
    appliance = await Appliance.open({ database });
    officers = [await TestAdministrator.register(appliance, 'anna'), await TestAdministrator.register(appliance, 'boris')];
  });
  afterAll(() => appliance?.close());

  test('what is dangerous is only filed: its id on stdout, status 3, and no file is left', async () => {
    const output = appliance.beside('linux.json');
    const filed = await appliance.ekms('app', 'issue', '--platform', 'linux', '-o', output);
    expect(filed).toMatchObject({
      status: 3,
      stdout: expect.stringMatching(/^[0-9a-f-]{36}\n$/),
      stderr: expect.stringContaining('request-filed'),
    });
    expect(existsSync(output)).toBe(false);
    const id = filed.stdout.trim();
    expect(await appliance.ekms('request', 'perform', id, '-o', output)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('approvals-missing'),
    });
    await approve(id);
    // Approvals outlive the process that took them.
    await appliance.stop();
    await appliance.start();
    expect(await appliance.ekms('request', 'perform', id, '-o', output)).toMatchObject({ status: 0 });
    expect(JSON.parse(readFileSync(output, 'utf8'))).toMatchObject({ platform: 'linux', key: expect.stringContaining('PRIVATE KEY') });
    expect(statSync(output).mode & 0o077).toBe(0);
    expect(await appliance.ekms('request', 'perform', id)).toMatchObject({ status: 1, stderr: expect.stringContaining('request-closed') });
    expect(JSON.parse((await appliance.ekms('request', 'show', id)).stdout)).toMatchObject({ state: 'done' });
  });

  test('with no appliance up it is filed all the same, and what is not dangerous is done', async () => {
    await appliance.stop();
    expect(await appliance.ekms('admin', 'role', officers[0]?.id ?? '', 'auditor')).toMatchObject({ status: 3 });
    expect(await appliance.ekms('app', 'list')).toMatchObject({ status: 0 });
    const doctor = await appliance.ekms('doctor');
    expect(doctor.stdout).toMatch(/^good {2}two persons: /m);
    await appliance.start();
  });

  test('a person whom two officers gave a role has it', async () => {
    const { stdout } = await appliance.ekms('admin', 'invite', '--name', 'Vera', '--email', 'vera@corp.example');
    const { link } = JSON.parse(stdout) as { link: string };
    const vera = await TestAdministrator.register(appliance, 'vera', undefined, link);
    const filed = await appliance.ekms('admin', 'role', vera.id, 'auditor');
    expect(filed.status).toBe(3);
    for (const officer of officers) await officer.signIn();
    await approve(filed.stdout.trim());
    await vera.signIn();
    expect((await vera.ask('GET', 'me')).json).toMatchObject({ name: 'Vera', role: 'auditor' });
    expect((await vera.act('audit.tail', { count: 1 })).status).toBe(200);
  });
});
