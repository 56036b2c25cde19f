import 'reflect-metadata';
import { afterAll, beforeAll, expect, jest, test } from '@jest/globals';
import { type Field, form } from '../support/form.js';
import { TestAdministrator } from '../support/officers.js';
import { richPdf } from '../support/rich-pdf.js';
import { refusal, send } from '../support/wire.js';
import { enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';
import { leavesOf, sha256, WitnessedLog } from '../support/witnessed-log.js';
import { ContractCheck } from './contract-check.js';
import { Doors, headerOf } from './doors.js';

/** Every answer here goes through `Doors`, which throws for what the document does not promise. */
/** Device keys of RSA-3072 take their time on a busy machine. */
jest.setTimeout(60_000);

const address = 'alice@corp.example';
const check = new ContractCheck();
const log = new WitnessedLog('keys.other.example/v1/audit');
let doors: Doors;
let alice: WireDevice;
beforeAll(async () => {
  doors = await Doors.open(check, {
    settings: { keys: { bits: 2048, pool: { target: 1 } }, documents: { megabytes: 1 }, witnessing: { logs: [log.key] } },
  });
  alice = await enrolDevice(doors.house, address);
  await keysOf(doors.house, alice);
});
afterAll(() => doors?.close());

test('who encrypts documents gets what is promised, and is refused as promised', async () => {
  const post = async (path: string, ...fields: Field[]) =>
    doors.promised(
      'POST',
      path,
      await send({
        port: doors.house.port,
        root: doors.house.root,
        method: 'POST',
        path,
        ...form(fields),
        identity: { certificates: alice.certificates, key: alice.keys.identity },
      }),
    );
  const pdf = await richPdf();
  const file = (name: string, bytes = pdf): Field => ['file', { file: name, bytes }];
  const encrypt = (...fields: Field[]) => post('/v1/pdf/encryptions', ['recipients', address], ...fields);
  const one = await encrypt(file('one.pdf'));
  expect([one.status, headerOf(one, 'content-type')]).toEqual([200, 'application/pdf']);
  const several = await encrypt(file('one.pdf'), file('two.pdf', Buffer.from('no PDF')));
  expect([several.status, headerOf(several, 'content-type')]).toEqual([200, 'application/zip']);
  expect(refusal(await encrypt(file('one.pdf', one.body)))).toBe('409 pdf-encrypted');
  expect(refusal(await encrypt(file('one.pdf', Buffer.alloc(2 ** 20 + 1))))).toBe('413 pdf-too-large');
  expect(refusal(await encrypt())).toBe('400 file-missing');
  expect(refusal(await post('/v1/pdf/encryptions', ['recipients', 'group:none'], file('one.pdf')))).toBe('404 group-unknown');

  expect((await post('/v1/pdf/readers', file('one.pdf', one.body))).json).toMatchObject({ encryption: 'certificates', readers: [{}] });
  expect((await post('/v1/pdf/readers', file('one.pdf'))).json).toEqual({ encryption: 'none', readers: [] });
  expect(refusal(await post('/v1/pdf/readers', file('one.pdf', Buffer.from('no PDF'))))).toBe('400 pdf-not');

  expect((await doors.device(alice, 'GET', '/v1/pdf/recovery')).json).toMatchObject({ current: null, certificates: [] });

  const standings = (...recipients: string[]) => doors.device(alice, 'POST', '/v1/pdf/recipients', { recipients });
  expect((await standings(address, 'nobody@corp.example')).json).toMatchObject([{ state: 'valid' }, { state: 'none' }]);
  expect(refusal(await standings())).toBe('400 body-malformed');
  expect(refusal(await standings('alice'))).toBe('400 address-malformed');
  expect(refusal(await standings('group:none'))).toBe('404 group-unknown');
});

test('who reads the log gets what is promised, and is refused as promised', async () => {
  const { house } = doors;
  await house.house.checkpoints.publish();
  const checkpoint = await doors.device(alice, 'GET', '/v1/audit/checkpoint');
  expect(checkpoint.status).toBe(200);
  const width = Number(checkpoint.body.toString('utf8').split('\n')[1]);
  const partial = `000.p/${width}`;
  expect((await doors.device(alice, 'GET', `/v1/audit/tile/0/${partial}`)).body).toHaveLength(width * 32);
  for (const path of ['0/x001/000', '0/none', '64/000', `1/${partial}`])
    expect(refusal(await doors.device(alice, 'GET', `/v1/audit/tile/${path}`))).toBe('404 tile-unknown');

  const uses = (query: string) => doors.device(alice, 'GET', `/v1/me/uses?${query}`);
  const nonce = 'n'.repeat(43);
  expect((await uses(`from=0&since=${width}&nonce=${nonce}`)).json).toMatchObject({
    consistency: expect.arrayContaining([expect.any(String)]),
    next: null,
  });
  expect((await uses(`from=0&since=9999999&nonce=${nonce}`)).json).toMatchObject({ consistency: null });
  expect(refusal(await uses(`from=-1&since=0&nonce=${nonce}`))).toBe('400 body-malformed');

  const otto = await TestAdministrator.register(house, 'otto', 'auditor');
  const read = (path: string, cookie = otto.cookie) =>
    doors.anybody('administration', {
      path: `/v1/audit/${path}`,
      headers: { origin: house.administration, 'sec-fetch-site': 'same-origin', ...(cookie ? { cookie } : {}) },
    });
  for (const path of ['checkpoint', `tile/0/${partial}`, `tile/entries/${partial}`]) {
    expect({ path, status: (await read(path)).status }).toEqual({ path, status: 200 });
    expect(refusal(await read(path, ''))).toBe('401 session-missing');
  }
  const found = await read('entries?person=Alice@corp.example&action=binding.begin&count=5');
  expect(found.json).toMatchObject({ entries: [{ entry: { action: 'binding.begin' }, personal: { address } }] });
  expect(refusal(await read('entries?persona=alice'))).toBe('400 body-malformed');
  expect(refusal(await read('entries', ''))).toBe('401 session-missing');
  const days = await read('reports/releases');
  expect(days.json).toMatchObject({ report: 'releases', rows: [{ released: 1, refused: 0, keys: 1, people: 1, devices: 1 }] });
  expect(refusal(await read('reports/none'))).toBe('400 body-malformed');
  expect(refusal(await read('tile/entries/x001/000'))).toBe('404 tile-unknown');
  const olga = await TestAdministrator.register(house, 'olga', 'operator');
  expect(refusal(await read(`tile/entries/${partial}`, olga.cookie))).toBe('403 role-missing');
  expect(house.defects).toEqual([]);
});

test('who shows another log’s head gets what is promised, and is refused as promised', async () => {
  const add = (body: string) =>
    doors.anybody('client', { method: 'POST', path: '/v1/witness/add-checkpoint', body, headers: { 'content-type': 'text/plain' } });
  const leaves = leavesOf('entry', 3);
  const head = (name: string) => doors.anybody('client', { path: `/v1/witness/${sha256(Buffer.from(name)).toString('hex')}/checkpoint` });
  expect(refusal(await head(log.origin))).toBe('404 log-unknown');
  expect((await add(log.ask(0, leaves))).status).toBe(200);
  expect((await head(log.origin)).status).toBe(200);
  expect((await add(log.ask(0, leaves))).body.toString()).toBe('3\n');
  expect(refusal(await add(log.ask(4, leaves, { proof: [] })))).toBe('400 submission-malformed');
  expect(refusal(await add(log.ask(0, leaves, { by: new WitnessedLog(log.origin) })))).toBe('403 checkpoint-unsigned');
  expect(refusal(await add(new WitnessedLog('none').ask(0, leaves)))).toBe('404 log-unknown');
  expect(refusal(await add(log.ask(3, leavesOf('entry', 4), { proof: [] })))).toBe('422 proof-wrong');
});

test('every answer that the document promises for documents and the log was seen in this file', () => {
  expect(check.unseen((path) => /^\/v1\/(pdf|audit|me|witness)\//.test(path))).toEqual([]);
});
