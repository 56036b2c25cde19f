import 'reflect-metadata';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { Checkpoints, DurableAuditLog, LogBook, LogStanding, LogTree, stampedDigest, TimeStamps } from '../../src/audit/index.js';
import { authoritiesIn, readTimeStampReply, timeStampQuery, verifyTimeStamp } from '../../src/codec/timestamp.js';
import type { ActName } from '../../src/commands/acts.js';
import { exportLog, verifyLog } from '../../src/commands/audit-export.js';
import { Clock, type Storage } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TimeStamper } from '../support/time-stamper.js';

jest.setTimeout(60_000);
const READER = resolve(__dirname, '../interop/read_audit_log.py');
const HOUR = 3_600_000;
const urls = { crl: 'http://keys.corp.example/crl', issuer: 'http://keys.corp.example/cer' };
const AUTHORITIES = {
  ...{ organisation: 'Corp', domains: ['corp.example'], publicName: 'keys.corp.example' },
  urls: { root: urls, people: urls, devices: urls, infrastructure: urls },
};

class AheadClock extends Clock {
  ahead = 0;
  override now(): Date {
    return new Date(Date.now() + this.ahead);
  }
}

const undo: (() => void | Promise<void>)[] = [];
let folder: string;
let stamper: TimeStamper;
let storage: Storage;
let clock: AheadClock;
let stamps: TimeStamps;
let grow: () => Promise<void>;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-tsa-'));
  undo.push(() => rmSync(folder, { recursive: true }));
  stamper = await TimeStamper.open(folder);
  undo.push(() => stamper.close());
  clock = new AheadClock();
  const token = await MemoryToken.open(join(folder, 'journal'), AUTHORITIES, clock);
  undo.push(() => token.close());
  const opened = await openStorage({ url: 'sqlite:ekms.db', home: folder });
  undo.push(() => opened.close());
  storage = opened;
  const [tree, audit, standing] = [new LogTree(storage), new DurableAuditLog(clock), new LogStanding()];
  const { tiles } = new LogBook(storage, audit, tree);
  const checkpoints = new Checkpoints({ tree, tiles, token, standing, clock, origin: 'keys.corp.example/v1/audit' });
  grow = async () => {
    await storage.write((unit) => audit.append(unit, { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } }));
    await checkpoints.publish();
  };
  const authorities = authoritiesIn(readFileSync(stamper.authoritiesFile, 'utf8'));
  stamps = new TimeStamps({ storage, audit, tree, clock }, { url: stamper.url, everyHours: 24, authorities });
});
afterEach(async () => {
  for (const each of undo.splice(0).reverse()) await each();
});

const entries = async () =>
  (await storage.all<{ body: string }>("SELECT body FROM audit_entries WHERE action = 'audit.timestamp' ORDER BY idx")).map(
    ({ body }) => JSON.parse(body) as { outcome: string; reason?: string; facts: object },
  );

test('a head is stamped once in so many hours in which something happened; openssl says the same of the token', async () => {
  await stamps.stampDue();
  expect(stamper.queries).toBe(0);
  await grow();
  await grow();
  await stamps.stampDue();
  await stamps.stampDue();
  const [stamped] = await stamps.all();
  expect(stamped).toMatchObject({ size: 2 });
  expect(await entries()).toMatchObject([{ outcome: 'done', facts: { size: 2 } }]);
  writeFileSync(join(folder, 'token'), stamped?.token ?? '');
  const digest = stampedDigest(stamped?.note ?? '').toString('hex');
  const said = execFileSync(
    'openssl',
    ['ts', '-verify', '-digest', digest, '-in', 'token', '-token_in', '-CAfile', stamper.authoritiesFile],
    { cwd: folder, encoding: 'utf8', stdio: 'pipe' },
  );
  expect(said).toContain('Verification: OK');
  // Later nothing happened but the stamp's own entry; then something did, but it is not time yet; then the authority's clock is another than ours.
  clock.ahead = 25 * HOUR;
  await stamps.stampDue();
  clock.ahead = 23 * HOUR;
  await grow();
  await stamps.stampDue();
  expect(stamper.queries).toBe(1);
  clock.ahead = 25 * HOUR;
  await stamps.stampDue();
  expect(stamper.queries).toBe(2);
  expect((await entries()).at(-1)).toMatchObject({ outcome: 'failed', reason: 'timestamp-wrong' });
});

test('a reply to another query, over another head, by another authority or by no authority for time is none, and an entry says so', async () => {
  await grow();
  const last = async () => (await entries()).at(-1);
  const imprint = async () => stampedDigest((await storage.one<{ note: string }>('SELECT note FROM audit_tree'))?.note ?? '');
  stamper.certify('stranger', 'critical,timeStamping');
  const bent: (() => Promise<Buffer>)[] = [
    async () => stamper.stamp(timeStampQuery(await imprint(), randomBytes(16))),
    async () => stamper.stamp(timeStampQuery(randomBytes(32), randomBytes(16))),
    async () => stamper.stamp(timeStampQuery(await imprint(), randomBytes(16)), 'stranger'),
  ];
  for (const make of bent) {
    const reply = await make();
    stamper.reply = () => reply;
    await stamps.stampDue();
    expect(await last()).toMatchObject({ outcome: 'failed', reason: 'timestamp-wrong' });
  }
  stamper.reply = (honest) => honest.map((octet, at) => (at === honest.length - 3 ? octet ^ 1 : octet)) as Buffer;
  await stamps.stampDue();
  expect(await last()).toMatchObject({ outcome: 'failed', reason: 'timestamp-wrong' });
  stamper.reply = () => Buffer.from('3003020102', 'hex');
  await stamps.stampDue();
  expect((await last())?.outcome).toBe('failed');
  await stamper.close();
  await stamps.stampDue();
  expect(await last()).toMatchObject({ outcome: 'failed', reason: 'timestamp-unreachable' });
  expect(await stamps.all()).toEqual([]);
});

test('a token that was changed is none; without the look at its signature one would be', async () => {
  const imprint = randomBytes(32);
  const token = readTimeStampReply(stamper.stamp(timeStampQuery(imprint, randomBytes(8))));
  const authorities = authoritiesIn(readFileSync(stamper.authoritiesFile, 'utf8'));
  expect(verifyTimeStamp(token, imprint, authorities)).toMatchObject({ by: 'CN=tsa of the tests' });
  const changed = Buffer.from(token);
  changed[token.length - 2] = (changed[token.length - 2] ?? 0) ^ 1;
  expect(() => verifyTimeStamp(changed, imprint, authorities)).toThrow('does not hold');
  const bare = guardOff<typeof import('../../src/codec/timestamp.js')>({
    file: 'src/codec/timestamp.ts',
    guard:
      "if (!verify(digest, tlv(TAG.set, attributes.content), certificate.publicKey, value)) throw wrong('its signature does not fit');",
    instead: '',
  });
  expect(bare.verifyTimeStamp(changed, imprint, authorities).by).toBe('CN=tsa of the tests');
  const foreign = authoritiesIn(readFileSync(join(folder, 'tsa.pem'), 'utf8'));
  expect(() => verifyTimeStamp(token, imprint, foreign)).toThrow('does not lead to an authority');
  for (let at = 0; at < token.length; at += 1) {
    const bent = Buffer.from(token);
    bent[at] = (bent[at] ?? 0) ^ 0x10;
    let time: number | undefined;
    try {
      time = verifyTimeStamp(bent, imprint, authorities).time.getTime();
    } catch {
      continue;
    }
    // What no signature covers, such as a version or who the signer says to be beside the certificate, changes nothing of what is said.
    expect(time).toBe(verifyTimeStamp(token, imprint, authorities).time.getTime());
  }
});

test('an export holds heads with their stamps; who judges it says whose are believed, and learns of each that does not hold', async () => {
  const timestamp = { url: stamper.url, authoritiesFile: stamper.authoritiesFile };
  const house = await HouseInProcess.open({ settings: { witnesses: { timestamp } } });
  undo.push(() => house.close());
  await house.house.checkpoints.publish();
  await house.house.timeStamps.stampDue();
  const [stamped] = await house.house.timeStamps.all();
  const dir = join(folder, 'export');
  const act = (name: ActName, args: object) => house.act(name, args);
  await exportLog(dir, act);
  const said: unknown[] = [];
  const key = join(house.house.configuration.home, 'audit.pub');
  const judge = (tsa?: string) =>
    verifyLog({ export: dir, key, head: [], ...(tsa ? { tsa } : {}) }, { act, print: (line) => said.push(line) });
  await judge(stamper.authoritiesFile);
  expect(said).toContainEqual(
    expect.stringMatching(new RegExp(`stamped: ${stamped?.size} entries were so at 20.*CN=tsa of the tests; 1 time`)),
  );
  await judge();
  expect(said).toContainEqual(expect.stringContaining('1 time stamps were not judged'));
  const python = (authorities: string) => spawnSync('python3', [READER, dir, key, authorities], { encoding: 'utf8' });
  expect(python(stamper.authoritiesFile).stdout).toContain(', 1 time stamps');
  await expect(judge(join(folder, 'tsa.pem'))).rejects.toMatchObject({ code: 'audit-damaged' });
  expect(said).toContainEqual(expect.stringContaining('BAD   timestamp'));
  expect(python(join(folder, 'tsa.pem')).stderr).toContain('does not hold');
  cpSync(join(dir, `timestamps/${stamped?.size}`), join(dir, 'timestamps/9999'));
  await expect(judge()).rejects.toMatchObject({ code: 'audit-damaged' });
});
