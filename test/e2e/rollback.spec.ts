import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { Appliance } from '../support/appliance.js';
import { CustodyAppliance } from '../support/ceremony.js';
import { refusal } from '../support/wire.js';
import { enrolDevice, fetchKeys, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(120_000);

const PARTS = { database: /^ekms\.db/, token: /^(token|token-state)$/ } as const;

/** A whole appliance, stopped, whose parts are put back from an earlier moment and started again. A folder outside of it remembers the heads of its log. */
describe('an appliance that was put back', () => {
  let ekms: CustodyAppliance;
  let other: Appliance;
  let alice: WireDevice;
  let settings: Record<string, unknown>;

  const vault = () => ({ name: 'vault', folder: ekms.beside('vault') });
  const otherAppliance = () => ({
    ...{ name: 'other', url: `https://localhost:${other.ports.client}/v1/witness`, caFile: other.file('ca.pem') },
    key: readFileSync(other.file('witness.pub'), 'utf8').trim(),
  });
  const witnesses = (...readable: object[]) => ({ witnesses: { readable, everySeconds: 1 } });
  const copy = (from: string, to: string, parts = /^(ekms\.db|token)/) => {
    mkdirSync(to, { recursive: true });
    for (const file of readdirSync(from).filter((one) => parts.test(one))) {
      rmSync(join(to, file), { recursive: true, force: true });
      cpSync(join(from, file), join(to, file), { recursive: true });
    }
  };
  /** Parts of the earlier copy over the appliance as it is now; what lay there is in `now`. */
  const putBack = async (parts: readonly RegExp[], ...readable: object[]) => {
    await ekms.stop();
    copy(ekms.beside('now'), ekms.path);
    for (const file of readdirSync(ekms.path).filter((one) => /^ekms\.db-/.test(one))) rmSync(join(ekms.path, file));
    for (const part of parts) copy(ekms.beside('earlier'), ekms.path, part);
    ekms.configure({ ...settings, ...witnesses(...readable) });
    await ekms.start();
  };
  const answer = async () => {
    const reply = await fetchKeys(ekms, alice);
    return reply.status === 200 ? '200' : refusal(reply);
  };

  beforeAll(async () => {
    ekms = await CustodyAppliance.hold({}, async (home) => {
      settings = { domains: ['corp.example'], keys: { bits: 2048, pool: { target: 2 } }, database: { url: home.databaseUrl } };
      ekms = home;
      home.configure({ ...settings, ...witnesses(vault()) });
      const agents = ['Mona', 'Nils'];
      for (const agent of agents) {
        const openssl = (...words: string[]) => execFileSync('openssl', words, { cwd: home.folder, stdio: 'ignore' });
        openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', `${agent}.key`);
        openssl('pkey', '-in', `${agent}.key`, '-pubout', '-out', `${agent}.pem`);
      }
      home.ceremonyOptions = ['--recovery-agent', ...agents.map((agent) => `${agent}=${home.beside(agent)}.pem`), '--recovery-quorum', '2'];
    });
    alice = await enrolDevice(ekms, 'alice@corp.example');
    await keysOf(ekms, alice);
    await ekms.db.close(); // the test's own way in would keep the file open
    await ekms.stop();
    copy(ekms.path, ekms.beside('earlier'));
    other = await Appliance.open({ settings: { witnessing: { logs: [readFileSync(ekms.file('audit.pub'), 'utf8').trim()] } } });
    ekms.configure({ ...settings, ...witnesses(vault(), otherAppliance()) });
    await ekms.start();
    for (let n = 0; n < 5; n += 1) await keysOf(ekms, alice);
    await ekms.stop();
    copy(ekms.path, ekms.beside('now'));
  });
  afterAll(async () => {
    await other?.close();
    await ekms?.close();
  });

  test('older database, older token, older log in a database that is otherwise today’s: found at start; keys are not served', async () => {
    await putBack([PARTS.database], vault());
    expect(await answer()).toBe('503 audit-rolled-back');
    await putBack([PARTS.token], vault());
    expect(await answer()).toBe('503 audit-token-older');
    await ekms.stop();
    copy(ekms.beside('now'), ekms.path);
    logOf(join(ekms.beside('earlier'), 'ekms.db'), join(ekms.path, 'ekms.db'));
    await ekms.start();
    expect(await answer()).toBe('503 audit-rolled-back');
  });

  test('both together: found by what another appliance remembers; with none they would be served', async () => {
    await putBack([PARTS.database, PARTS.token]);
    expect(await answer()).toBe('200');
    await putBack([PARTS.database, PARTS.token], otherAppliance());
    expect(await answer()).toBe('503 audit-rolled-back');
    const ready = await fetch(`http://127.0.0.1:${ekms.ports.operation}/health/ready`);
    expect([ready.status, await ready.json()]).toMatchObject([
      503,
      { log: { state: 'broken', reason: 'audit-rolled-back' }, witnesses: [{ name: 'other', state: 'disagrees' }] },
    ]);
    const { stdout } = await ekms.ekms('doctor');
    expect(stdout).toMatch(/BAD .*other/i);
  });

  test('two persons accept it: the log goes on under another name, devices enrol anew, and an export of it holds', async () => {
    const statement = ekms.beside('statement');
    expect(await ekms.ekms('audit', 'loss', '-o', statement)).toMatchObject({ status: 0 });
    const sign = (agent: string) =>
      execFileSync('openssl', ['dgst', '-sha256', '-sign', `${agent}.key`, '-out', `${agent}.sig`, 'statement'], { cwd: ekms.folder });
    for (const agent of ['Mona', 'Nils']) sign(agent);
    const accept = (...agents: string[]) =>
      ekms.ekms('audit', 'accept-rollback', statement, '--signed', ...agents.map((agent) => `${agent}=${ekms.beside(`${agent}.sig`)}`));
    expect(await accept('Mona')).toMatchObject({ status: 1, stderr: expect.stringContaining('1 of the 2') });
    expect(await answer()).toBe('503 audit-rolled-back');
    expect(await accept('Mona', 'Nils')).toMatchObject({ status: 0 });
    expect(await answer()).toBe('403 device-blocked');
    const again = await enrolDevice(ekms, 'alice@corp.example');
    expect(await keysOf(ekms, again)).toMatchObject([{ state: 'active' }]);
    await ekms.stop();
    await ekms.start();
    expect((await fetchKeys(ekms, again)).status).toBe(200);
    // The other appliance goes on with it under the new name, and says up to where it knows it.
    expect((await other.ekms('doctor')).stdout).toMatch(/localhost\/v1\/audit\/20\S+ up to \d+ entries/);
    expect(readFileSync(join(ekms.path, 'audit.pub'), 'utf8')).toMatch(/^localhost\/v1\/audit\/20/);
    expect(await ekms.ekms('audit', 'verify')).toMatchObject({ status: 0 });
  });
});

/** The log of one database into another that is otherwise left as it is. */
function logOf(from: string, into: string): void {
  const db = new Database(into);
  db.exec(`ATTACH '${from}' AS earlier`);
  const triggers = db.prepare("SELECT name FROM main.sqlite_master WHERE type = 'trigger' AND name LIKE 'audit_%'").all() as {
    name: string;
  }[];
  for (const { name } of triggers) db.exec(`DROP TRIGGER main.${name}`);
  for (const table of ['audit_entries', 'audit_values', 'audit_tree', 'audit_tiles', 'audit_checkpoints'])
    db.exec(`DELETE FROM main.${table}; INSERT INTO main.${table} SELECT * FROM earlier.${table}`);
  db.close();
}
