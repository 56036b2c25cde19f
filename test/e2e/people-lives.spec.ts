import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Appliance } from '../support/appliance.js';
import { PEOPLE, Slapd } from '../support/slapd.js';
import { refusal } from '../support/wire.js';
import { begin, giveAnswer } from '../support/wire-device.js';

jest.setTimeout(120_000);
const MAIL = resolve(__dirname, '../vectors/eml/nested.eml');

// On PostgreSQL where there is one: the rules themselves run on SQLite in test/directory.
const DATABASE = process.env['EKMS_TEST_POSTGRES'] ? 'postgres' : 'sqlite';
describe(`people’s lives on ${DATABASE}`, () => lives(DATABASE));

/** An organisation whose people are in OpenLDAP; colleagues encrypt with openssl to what EKMS publishes. */
function lives(database: 'sqlite' | 'postgres'): void {
  let ekms: Appliance;
  let slapd: Slapd;

  beforeAll(async () => {
    slapd = await Slapd.open();
    for (const name of ['anna', 'bob', 'dora', 'erik', 'frida', 'gustav', 'hanna', 'ivo']) slapd.person(name, `${name}@corp.example`);
    const settings = { directory: slapd.settings({ attributes: { state: { attribute: 'accountStatus', active: ['', 'active'] } } }) };
    ekms = await Appliance.open({ database, settings });
    await sync();
  });
  afterAll(async () => {
    await ekms?.close();
    await slapd?.close();
  });

  async function sync(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await ekms.ekms('directory', 'sync', ...words);
    if (status !== 0) throw new Error(stderr);
    return stdout;
  }

  /** The certificate that a colleague with an enrolled device would be given for this address, by the look-up's own rule. */
  async function published(address: string): Promise<string | undefined> {
    const [row] = await ekms.db.all<{ der: Buffer }>(
      `SELECT der FROM certificates WHERE address = ? AND profile = 'person' AND revoked_at IS NULL
       AND employee = (SELECT employee FROM bindings WHERE address = ? AND to_time IS NULL) ORDER BY not_before DESC`,
      [address, address],
    );
    return row && `-----BEGIN CERTIFICATE-----\n${row.der.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
  }

  async function write(address: string, name: string): Promise<void> {
    writeFileSync(ekms.beside('to.pem'), (await published(address)) ?? '');
    execFileSync('openssl', ['cms', '-encrypt', '-binary', '-aes256', '-in', MAIL, '-out', ekms.beside(name), ekms.beside('to.pem')], {
      stdio: 'pipe',
    });
  }

  async function reads(device: string, name: string): Promise<boolean> {
    const { status } = await ekms.mesign(device, 'decrypt', ekms.beside(name), '-o', ekms.beside(`${name}.open`));
    return status === 0 && readFileSync(ekms.beside(`${name}.open`)).equals(readFileSync(MAIL));
  }

  test('the joiner: Carla begins on Monday. On Friday she is in the directory, a dry run names her, and by the evening colleagues encrypt to her; on Monday her laptop reads that mail', async () => {
    slapd.person('carla', 'carla@corp.example');
    const dry = JSON.parse(await sync('--dry-run')) as { steps: object[] };
    expect(dry.steps).toEqual([expect.objectContaining({ act: 'join', address: expect.objectContaining({ key: 'carla@corp.example' }) })]);
    expect(await ekms.db.all('SELECT id FROM bindings WHERE address = ?', ['carla@corp.example'])).toEqual([]);
    await sync();
    for (const until = Date.now() + 60_000; (await published('carla@corp.example')) === undefined; ) {
      expect(Date.now()).toBeLessThan(until);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await write('carla@corp.example', 'welcome');
    expect(await ekms.enroll('carlas', 'carla')).toMatchObject({ status: 0 });
    expect(await reads('carlas', 'welcome')).toBe(true);
  });

  test('the name change and the mover: Anna Meier marries and is anna.schmidt from now on. Her laptop keeps its key, old mail opens, new mail to the new name opens on it, and nobody encrypts to the old name any more', async () => {
    expect(await ekms.enroll('annas', 'anna')).toMatchObject({ status: 0 });
    await write('anna@corp.example', 'old');
    const [before] = await ekms.listKeys('annas');
    slapd.modify(
      `dn: uid=anna,${PEOPLE}\nchangetype: modify\nreplace: mail\nmail: anna.schmidt@corp.example\n-\nreplace: sn\nsn: Schmidt\n`,
    );
    await sync();
    await write('anna.schmidt@corp.example', 'new');
    expect(await published('anna@corp.example')).toBeUndefined();
    expect((await ekms.listKeys('annas')).map(({ id }) => id)).toEqual([before?.id]);
    expect(await reads('annas', 'old')).toBe(true);
    expect(await reads('annas', 'new')).toBe(true);
    // Her phone enrols by the new address and gets the same key.
    expect(await ekms.enroll('annas-phone', 'anna.schmidt')).toMatchObject({ status: 0 });
    expect((await ekms.listKeys('annas-phone')).map(({ id }) => id)).toEqual([before?.id]);
    expect(await reads('annas-phone', 'old')).toBe(true);
  });

  test('the leaver: Bob leaves on Friday and his account is disabled. After the next run neither his laptop nor a new one gets anything, and his keys are still there for the organisation', async () => {
    expect(await ekms.enroll('bobs', 'bob')).toMatchObject({ status: 0 });
    await write('bob@corp.example', 'bobs-mail');
    expect(await ekms.listKeys('bobs')).toHaveLength(1);
    slapd.modify(`dn: uid=bob,${PEOPLE}\nchangetype: modify\nreplace: accountStatus\naccountStatus: left\n`);
    await sync();
    await expect(ekms.listKeys('bobs')).rejects.toThrow(/employee-blocked/);
    expect(await ekms.enroll('bobs-new', 'bob')).toMatchObject({ stderr: expect.stringContaining('directory-unlisted') });
    const keys = "SELECT id, state FROM keys WHERE employee = (SELECT employee FROM bindings WHERE address = 'bob@corp.example')";
    expect(await ekms.db.all(keys)).toEqual([expect.objectContaining({ state: 'active' })]);
    expect((await ekms.log(10)).map(({ action }) => action)).toContain('employee.stop');
  });

  test('the returner: in spring Bob comes back, his account is enabled again, and his laptop reads his old mail', async () => {
    slapd.modify(`dn: uid=bob,${PEOPLE}\nchangetype: modify\nreplace: accountStatus\naccountStatus: active\n`);
    await sync();
    expect(await ekms.listKeys('bobs')).toHaveLength(1);
    expect(await reads('bobs', 'bobs-mail')).toBe(true);
  });

  test('the renewal: Hanna’s key is two years old. Overnight another takes over; she does nothing, and her laptop reads what was sent before and what is sent from now on', async () => {
    expect(await ekms.enroll('hannas', 'hanna')).toMatchObject({ status: 0 });
    await write('hanna@corp.example', 'before');
    const former = await published('hanna@corp.example');
    expect(await ekms.ekms('key', 'renew', 'hanna@corp.example')).toMatchObject({ status: 0 });
    expect(await published('hanna@corp.example')).not.toBe(former);
    await write('hanna@corp.example', 'after');
    expect(await reads('hannas', 'after')).toBe(true);
    expect(await reads('hannas', 'before')).toBe(true);
  });

  test('the shared mailbox: help@ is read by Anna and Hanna, each on her own laptop and by name in the log. Hanna changes departments: what comes from then on is Anna’s alone', async () => {
    expect(await ekms.ekms('mailbox', 'create', 'help@corp.example', '--mode', 'remote')).toMatchObject({ status: 0 });
    for (const who of ['anna.schmidt@corp.example', 'hanna@corp.example'])
      expect(await ekms.ekms('mailbox', 'add', 'help@corp.example', who)).toMatchObject({ status: 0 });
    await write('help@corp.example', 'please');
    for (const laptop of ['annas', 'hannas']) expect(await reads(laptop, 'please')).toBe(true);
    const uses = (await ekms.log(40)).filter(({ action, facts }) => action === 'key.decrypt' && facts?.['member'] !== undefined);
    expect(new Set(uses.map(({ facts }) => facts?.['member'])).size).toBe(2);
    const { status, stdout } = await ekms.mesign('annas', 'log');
    expect(status).toBe(0);
    expect(stdout.split('\n').filter((line) => line.includes('key.decrypt'))).toHaveLength(2);
    expect(await ekms.ekms('mailbox', 'remove', 'help@corp.example', 'hanna@corp.example')).toMatchObject({ status: 0 });
    expect([await reads('annas', 'please'), await reads('hannas', 'please')]).toEqual([true, false]);
    expect(await ekms.mesign('hannas', 'log')).toMatchObject({ status: 0 });
    const { steps, questions } = JSON.parse(await sync('--dry-run')) as { steps: object[]; questions: object[] };
    expect([steps, questions]).toEqual([[], []]);
  });

  test('the reassigned address: Dora, who was sales, leaves; Erik gets sales@. Erik’s laptop is a new person’s: none of Dora’s mail opens on it, new mail to sales does', async () => {
    slapd.modify(`dn: uid=dora,${PEOPLE}\nchangetype: modify\nreplace: mail\nmail: sales@corp.example\n`);
    await sync();
    expect(await ekms.enroll('doras', 'sales')).toMatchObject({ status: 0 });
    await write('sales@corp.example', 'to-dora');
    slapd.delete(`uid=dora,${PEOPLE}`);
    slapd.modify(`dn: uid=erik,${PEOPLE}\nchangetype: modify\nadd: mail\nmail: sales@corp.example\n`);
    // Before any run has seen it, a device of Erik’s asks: the directory is asked for this address at once.
    const early = await begin(ekms, 'sales@corp.example');
    expect(refusal(await giveAnswer(ekms, early))).toBe('403 enrolment-denied');
    await sync();
    expect(await ekms.enroll('eriks', 'sales')).toMatchObject({ status: 0 });
    await write('sales@corp.example', 'to-erik');
    expect(await reads('eriks', 'to-erik')).toBe(true);
    expect(await reads('eriks', 'to-dora')).toBe(false);
    await expect(ekms.listKeys('doras')).rejects.toThrow(/employee-blocked/);
  });

  test('the accident: the directory comes back empty after an upgrade. Nobody is stopped, the command says what to do, and doctor is red', async () => {
    const [devices] = await ekms.db.all<{ count: number }>("SELECT COUNT(*) AS count FROM employees WHERE state = 'active'");
    for (const name of ['frida', 'gustav', 'hanna', 'ivo']) slapd.delete(`uid=${name},${PEOPLE}`);
    const { status, stderr } = await ekms.ekms('directory', 'sync');
    expect({ status, stderr }).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/--dry-run, then --confirm [\w-]{43} \(directory-losses\)/),
    });
    expect(await ekms.db.all("SELECT COUNT(*) AS count FROM employees WHERE state = 'active'")).toEqual([devices]);
    const doctor = await ekms.ekms('doctor', '--json');
    const { findings } = JSON.parse(doctor.stdout) as { findings: { check: string; verdict: string }[] };
    expect(findings.filter(({ check }) => check === 'directory')).toEqual([expect.objectContaining({ verdict: 'bad' })]);
    // The operator looks, finds that these four did leave, and confirms exactly that.
    const { digest } = JSON.parse(await sync('--dry-run')) as { digest: string };
    await sync('--confirm', digest);
    expect((await ekms.log(10)).filter(({ action }) => action === 'employee.stop')).toHaveLength(4);
  });

  test('after all these lives the data hold together: doctor has nothing to say of them', async () => {
    const { stdout } = await ekms.ekms('doctor', '--data', '--json');
    const { findings } = JSON.parse(stdout) as { findings: { verdict: string; words: string }[] };
    expect(findings.filter(({ verdict }) => verdict === 'bad')).toEqual([]);
  });
}
