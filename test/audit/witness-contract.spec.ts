import 'reflect-metadata';
import { verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { SystemClock } from '../../src/foundation/index.js';
import { makeAuthorities } from '../../src/tokens/authorities.js';
import { MemoryHsm } from '../../src/tokens/memory-hsm.js';
import { Warden } from '../../src/tokens/warden.js';
import { C2spWitnessServer } from '../support/c2sp-witness.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { leavesOf, root, sha256, subproof, WitnessedLog } from '../support/witnessed-log.js';

jest.setTimeout(30_000);
const ORIGIN = 'log.example/v1/audit';

interface Reply {
  status: number;
  type: string;
  body: string;
}

describe.each(['of the tests', 'another EKMS'] as const)('a C2SP witness: %s', (kind) => {
  const log = new WitnessedLog(ORIGIN);
  let post: (body: string, type?: string) => Promise<Reply>;
  let vkey: string;
  let house: HouseInProcess | undefined;
  let close: () => Promise<void>;
  beforeAll(async () => {
    if (kind === 'of the tests') {
      const server = await C2spWitnessServer.open([{ origin: ORIGIN, publicKey: log.raw }]);
      [vkey, close] = [server.key, () => server.close()];
      post = (body) => send(plainRequest, `${server.url}/add-checkpoint`, body);
    } else {
      const ekms = await HouseInProcess.open({ settings: { witnessing: { logs: [log.key] } } });
      house = ekms;
      close = () => ekms.close();
      vkey = readFileSync(join(ekms.house.configuration.home, 'witness.pub'), 'utf8').trim();
      post = (body, type) => send(tlsRequest, `https://127.0.0.1:${ekms.port}/v1/witness/add-checkpoint`, body, { ca: ekms.root, type });
    }
  });
  afterAll(() => close?.());

  const leaves = leavesOf('entry', 40);
  const upTo = (size: number) => leaves.slice(0, size);

  test('refuses what is not asked as it should be, and unknown logs and keys', async () => {
    expect(await post(new WitnessedLog('none.example/log').ask(0, upTo(3)))).toMatchObject({ status: 404 });
    expect(await post(log.ask(0, upTo(3), { by: new WitnessedLog(ORIGIN) }))).toMatchObject({ status: 403 });
    expect(await post(log.ask(5, upTo(3), { proof: [] }))).toMatchObject({ status: 400 });
  });

  test('cosigns what extends what it has seen, once and again; and nothing else', async () => {
    const first = await post(log.ask(0, upTo(5)));
    expect(first.status).toBe(200);
    cosigned(vkey, first.body, log.text(upTo(5)));
    expect((await post(log.ask(5, upTo(5)))).status).toBe(200);
    expect(await post(log.ask(0, upTo(9)))).toEqual({ status: 409, type: 'text/x.tlog.size', body: '5\n' });
    expect((await post(log.ask(5, upTo(9), { proof: subproof(4, upTo(9), true) }))).status).toBe(422);
    expect((await post(log.ask(5, upTo(9), { proof: [] }))).status).toBe(422);
    for (const size of [8, 13, 16, 40]) {
      const before = size === 8 ? 5 : { 13: 8, 16: 13, 40: 16 }[size as 13];
      const reply = await post(log.ask(before ?? 0, upTo(size)));
      expect({ size, status: reply.status }).toEqual({ size, status: 200 });
      cosigned(vkey, reply.body, log.text(upTo(size)));
    }
    const other = [...upTo(39), ...leavesOf('other', 1)];
    expect((await post(log.ask(40, other))).status).toBe(409);
    expect((await post(log.ask(40, [...other, ...other], { proof: subproof(40, [...other, ...other], true) }))).status).toBe(422);
    expect(await post(log.ask(3, upTo(30)))).toEqual({ status: 409, type: 'text/x.tlog.size', body: '40\n' });
    expect((await post(log.ask(40, upTo(40)))).status).toBe(200);
  });

  if (kind === 'of the tests') return;
  test('tells its last head to whoever reads it; refusals and what it cosigned are entries', async () => {
    const ekms = house as HouseInProcess; // of this kind
    const id = sha256(Buffer.from(ORIGIN)).toString('hex');
    const read = (of: string) =>
      send(tlsRequest, `https://127.0.0.1:${ekms.port}/v1/witness/${of}/checkpoint`, undefined, { ca: ekms.root });
    const note = await read(id);
    expect(note).toMatchObject({ status: 200, type: 'text/plain; charset=utf-8' });
    expect(note.body.startsWith(`${log.text(leaves)}\n— ${ORIGIN} `)).toBe(true);
    cosigned(vkey, `${note.body.split('\n').at(-2)}\n`, log.text(leaves));
    // What counts is outside of the database: an older one, or none, forgets nothing.
    await ekms.db.write((unit) => unit.run('DELETE FROM witnessed_heads'));
    expect(await post(log.ask(0, upTo(3)))).toEqual({ status: 409, type: 'text/x.tlog.size', body: '40\n' });
    expect((await read(id)).status).toBe(404);
    expect((await post(log.ask(40, upTo(40)))).status).toBe(200);
    expect((await read(id)).status).toBe(200);
    expect((await read(sha256(Buffer.from('none')).toString('hex'))).status).toBe(404);
    // Strangers may show one head as often as they like: that is no work for the token.
    const { token } = ekms;
    const cosign = token.cosign.bind(token);
    let signed = 0;
    token.cosign = (asked) => {
      signed += 1;
      return cosign(asked);
    };
    for (let again = 0; again < 3; again += 1) cosigned(vkey, (await post(log.ask(40, upTo(40)))).body, log.text(upTo(40)));
    expect(signed).toBe(0);
    ekms.pass(61_000);
    for (let again = 0; again < 3; again += 1) expect((await post(log.ask(40, upTo(40)))).status).toBe(200);
    expect(signed).toBe(1);
    ekms.pass(-61_000);
    token.cosign = cosign;
    const entries = (await ekms.log(200)).filter(({ action }) => action === 'witness.cosign');
    expect(entries.filter(({ outcome }) => outcome === 'done')).toMatchObject([
      { facts: { log: ORIGIN, size: 5 } },
      { facts: { log: ORIGIN, size: 40 } },
    ]);
    expect(new Set(entries.map(({ reason }) => reason))).toEqual(
      new Set([undefined, 'log-unknown', 'checkpoint-unsigned', 'submission-malformed', 'proof-wrong', 'checkpoint-forked']),
    );
    expect(ekms.defects).toEqual([]);
  });

  test('bodies in any other spelling are refused; a log goes on under a longer name with the same key', async () => {
    const good = log.ask(40, upTo(40));
    const bent = ['', 'old 40', good.replace('old 40', 'old 040'), good.replace('old', 'Old'), `x${good}`, good.replace('\n\n', '\n')];
    bent.push(good.replace('old 40\n', `old 40\n${'A'.repeat(43)}\n`), log.ask(40, upTo(40), { more: 'extension\n' }));
    for (const body of bent) expect({ body, status: (await post(body)).status }).toEqual({ body, status: 400 });
    expect((await post(good, 'text/html')).status).toBe(415);
    expect((await post(good, '')).status).toBe(200);
    const name = `${ORIGIN}/2026-01-02-abcdef`;
    expect((await post(new WitnessedLog(name).ask(0, upTo(7)))).status).toBe(403);
    const accepted = new WitnessedLog(name, log.pair);
    const reply = await post(accepted.ask(0, upTo(7)));
    cosigned(vkey, reply.body, accepted.text(upTo(7)));
  });
});

test('the token process looks at the proof itself: without that it would cosign a fork', async () => {
  const hsm = new MemoryHsm();
  const urls = { crl: 'http://keys.corp.example/crl', issuer: 'http://keys.corp.example/cer' };
  const authorities = await makeAuthorities(
    hsm,
    {
      ...{ organisation: 'Corp', domains: ['corp.example'], publicName: 'keys.corp.example' },
      urls: { root: urls, people: urls, devices: urls, infrastructure: urls },
    },
    new Date(),
  );
  const head = (leaves: Buffer[]) => ({ origin: ORIGIN, size: leaves.length, root: root(leaves).toString('base64') });
  const other = leavesOf('other', 9);
  const fork = { name: 'keys.corp.example/v1/witness', from: head(leavesOf('entry', 5)), to: head(other), proof: subproof(5, other, true) };
  const bare = guardOff<typeof import('../../src/tokens/warden.js')>({
    file: 'src/tokens/warden.ts',
    guard: "if (!extending) throw forbidden('head-forked', 'this head does not extend the last one of that log that was seen');",
    instead: '',
  });
  await expect(new Warden(hsm, authorities, new SystemClock()).run('cosign', fork)).rejects.toMatchObject({ code: 'head-forked' });
  expect((await new bare.Warden(hsm, authorities, new SystemClock()).run('cosign', fork)).value).toMatch(/^— keys.corp.example/);
});

/** https://c2sp.org/tlog-cosignature, by node:crypto alone. */
function cosigned(vkey: string, line: string, text: string): void {
  const [name = '', id = '', encoded = ''] = vkey.split('+');
  const key = Buffer.from(vkey.slice(name.length + id.length + 2), 'base64');
  expect(key[0]).toBe(4);
  expect(encoded).not.toBe('');
  const [dash, signer, blob = ''] = line.trimEnd().split(' ');
  const bytes = Buffer.from(blob, 'base64');
  expect([dash, signer, bytes.length, bytes.subarray(0, 4).toString('hex')]).toEqual(['—', name, 76, id]);
  const seconds = bytes.readBigUInt64BE(4);
  expect(Math.abs(Date.now() / 1000 - Number(seconds))).toBeLessThan(60);
  const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key.subarray(1)]);
  const message = Buffer.from(`cosignature/v1\ntime ${seconds}\n${text}`);
  expect(verify(null, message, { key: spki, format: 'der', type: 'spki' }, bytes.subarray(12))).toBe(true);
}

function send(
  by: typeof tlsRequest,
  url: string,
  body: string | undefined,
  { ca, type = 'text/plain' }: { ca?: string; type?: string | undefined } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const headers =
      body === undefined ? {} : { 'content-length': Buffer.byteLength(body), ...(type === '' ? {} : { 'content-type': type }) };
    const asked = by(url, { method: body === undefined ? 'GET' : 'POST', headers, ...(ca === undefined ? {} : { ca }) }, (answer) => {
      const parts: Buffer[] = [];
      answer.on('data', (part: Buffer) => parts.push(part));
      answer.on('end', () =>
        resolve({
          status: answer.statusCode ?? 0,
          type: answer.headers['content-type'] ?? '',
          body: Buffer.concat(parts).toString('utf8'),
        }),
      );
      answer.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}
