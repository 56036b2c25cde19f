import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  AuditReader,
  cefForm,
  DurableAuditLog,
  FileSink,
  Forwarder,
  type ForwardingLimits,
  jsonForm,
  type LogEntry,
  OtlpSink,
  Sink,
  SyslogSink,
} from '../../src/audit/index.js';
import { type AuditEvent, type AuditLog, type Storage, SystemClock } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';
import { eachDatabase } from '../support/database.js';
import { Collector, type CollectorFault, identity, Rsyslog, type SyslogFault, SyslogReceiver } from '../support/log-receivers.js';

const LIMITS: ForwardingLimits = { batch: 32, breath: 1, every: 10, attempt: 1_000, backOff: { first: 10, most: 100 } };
const ORIGIN = { log: 'keys.corp.example/v1/audit', host: 'keys.corp.example', version: '0.1.0' };
const who = identity();
afterAll(() => rmSync(who.folder, { recursive: true, force: true }));

const events: AuditEvent[] = [
  {
    action: 'key.deliver',
    outcome: 'done',
    actor: { kind: 'device', id: 'd1' },
    device: 'd1',
    employee: 'e1',
    personal: { network: '10.1.0.1' },
  },
  { action: 'device.admit', outcome: 'refused', reason: 'device-unknown', actor: { kind: 'stranger' }, personal: { network: 'fd00::1' } },
  {
    action: 'mail.send',
    outcome: 'failed',
    reason: 'mail-refused',
    actor: { kind: 'system' },
    facts: { kind: 'challenge' },
    personal: { recipient: 'zoë=\\|@corp.example' },
  },
];

/** Faults that cost a whole attempt's time. */
const SLOW: ReadonlySet<string> = new Set(['mute', 'hang']);

class House {
  readonly log: AuditLog;
  #said = 0;
  readonly #running: Forwarder[] = [];

  constructor(
    readonly storage: Storage,
    private readonly put: () => Promise<void> = async () => undefined,
  ) {
    this.log = new DurableAuditLog(new SystemClock());
  }

  /** On an SQLite of its own. */
  static async open(): Promise<House> {
    const home = mkdtempSync(join(tmpdir(), 'ekms-forwarding-'));
    const storage = await openStorage({ url: 'sqlite:ekms.db', home });
    return new House(storage, async () => {
      await storage.close();
      rmSync(home, { recursive: true, force: true });
    });
  }

  async close(): Promise<void> {
    await this.end();
    await this.put();
  }

  /** What the service does meanwhile: each is refused after 5 s by storage itself, so it is enough that none is. */
  async says(count: number): Promise<void> {
    for (let n = 0; n < count; n += 1) {
      const event = events[this.#said++ % events.length];
      if (event) await this.storage.write((unit) => this.log.append(unit, event));
    }
  }

  begin(sink: Sink, limits = LIMITS): Forwarder {
    const forwarder = new Forwarder(this.storage, this.log, new SystemClock(), new Map([['siem', sink]]), limits);
    this.#running.push(forwarder);
    forwarder.begin();
    return forwarder;
  }

  async end(): Promise<void> {
    for (const forwarder of this.#running.splice(0)) await forwarder.stop();
  }

  async entries(): Promise<LogEntry[]> {
    return new AuditReader(this.storage).page(0, 10_000);
  }
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 45_000; !(await holds()); await sleep(10))
    if (Date.now() > end) throw new Error(`it never came to be that ${what}`);
}

/** Everything came, first in the order of the log; what came again is counted. */
async function complete(house: House, came: () => number[], fired: object): Promise<void> {
  await until(async () => new Set(came()).size === (await house.entries()).length, 'everything had come');
  const all = came();
  const first = [...new Set(all)];
  expect(first).toEqual((await house.entries()).map(({ index }) => index));
  console.log(`faults fired: ${JSON.stringify(fired)}; ${first.length} entries came, ${all.length - first.length} of them again`);
}

const indexOf = (line: string): number => (JSON.parse(line) as { index: number }).index;
const indexIn = (message: string): number => indexOf(message.slice(message.indexOf('{')));

/** Code that the OpenTelemetry project generated from logs_service.proto 1.x. It passes over what it does not know. Its types are of all it exports. */
const { ExportLogsServiceRequest } = (require('@opentelemetry/otlp-transformer/build/src/generated/root') as OtlpRoot).opentelemetry.proto
  .collector.logs.v1;
interface OtlpRoot {
  opentelemetry: { proto: { collector: { logs: { v1: { ExportLogsServiceRequest: ProtobufMessage } } } } };
}
interface ProtobufMessage {
  fromObject(plain: unknown): object;
  toObject(message: object, form: { longs: typeof String }): unknown;
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}
/** What is left of a request that went through the project's messages and their bytes, written in proto3's JSON mapping as OTLP has it. */
function understood(request: unknown): unknown {
  const bytes = ExportLogsServiceRequest.encode(ExportLogsServiceRequest.fromObject(request)).finish();
  return ExportLogsServiceRequest.toObject(ExportLogsServiceRequest.decode(bytes), { longs: String });
}
interface OtlpRequest {
  resourceLogs: { scopeLogs: { logRecords: { body: { stringValue: string }; severityText: string }[] }[] }[];
}
const recordsIn = (requests: readonly unknown[]) =>
  (requests as OtlpRequest[]).flatMap(({ resourceLogs }) =>
    resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords)),
  );

const syslogTo = (port: number, form = jsonForm(ORIGIN, false)) =>
  new SyslogSink({ host: 'localhost', port, hostname: ORIGIN.host, tls: { ca: who.certificate }, form, pause: 100 });

describe('a sink', () => {
  let house: House;
  beforeEach(async () => {
    house = await House.open();
  });
  afterEach(() => house.close());

  test('syslog over TLS: whatever the receiver does, the service goes on, and everything comes in the end', async () => {
    const receiver = await SyslogReceiver.open(who);
    const forwarder = house.begin(syslogTo(receiver.port));
    await house.says(40);
    for (const fault of ['reset', 'early-end', 'mute', 'hang', 'slow'] as const satisfies SyslogFault[]) {
      receiver.fault = fault;
      await house.says(40);
      await until(() => (receiver.fired[fault] ?? 0) >= (SLOW.has(fault) ? 1 : 2), `the receiver was ${fault}`);
      // What hangs is not waited for: entries are written meanwhile.
      await house.says(40);
    }
    await receiver.close();
    await house.says(40);
    await until(async () => ((await forwarder.states())[0]?.failures ?? 0) >= 6, 'it had failed six times');
    const [state] = await forwarder.states();
    expect(state).toMatchObject({ sink: 'siem', state: 'failing', reason: 'ECONNREFUSED' });
    expect(state?.behind).toBeGreaterThan(30);
    receiver.fired.dead = state?.failures ?? 0;
    receiver.fault = undefined;
    await receiver.listen();
    await until(async () => (await forwarder.states())[0]?.behind === 0, 'it had caught up');
    // The log itself says that the sink was out, and is back.
    await until(async () => (await house.entries()).some(({ body }) => body.action === 'forward.resume'), 'the log said so');
    await complete(house, () => receiver.messages.map(indexIn), receiver.fired);
    expect(receiver.messages[1]).toMatch(
      /^<108>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z keys\.corp\.example ekms - device\.admit - \{"log":"keys\.corp\.example\/v1\/audit","index":1,"leaf":"[\w-]{43}","entry":\{/,
    );
    expect(receiver.messages.join('\n')).not.toMatch(/10\.1\.0\.1|fd00::1|corp\.example"?,?"?recipient|zoë/);
    await receiver.close();
  });

  test('one that hears of no deadline is said to fail, and is never asked twice at once', async () => {
    const came: number[] = [];
    let [asked, atOnce] = [0, 0];
    let release: () => void = () => undefined;
    const hung = new Promise<void>((resolve) => {
      release = resolve;
    });
    /** A disk that hangs. */
    class HangingSink extends Sink {
      override async deliver(entries: readonly LogEntry[]) {
        asked += 1;
        atOnce += 1;
        expect(atOnce).toBe(1);
        if (asked === 1) await hung;
        atOnce -= 1;
        came.push(...entries.map(({ index }) => index));
        return { rejected: 0 };
      }
    }
    const forwarder = house.begin(new HangingSink(), { ...LIMITS, attempt: 100 });
    await house.says(40);
    await until(async () => ((await forwarder.states())[0]?.failures ?? 0) >= 3, 'it had failed three times');
    expect((await forwarder.states())[0]).toMatchObject({ state: 'failing', reason: 'an earlier attempt has not come back' });
    expect(asked).toBe(1);
    release();
    await complete(house, () => came, { hung: 1 });
    await until(async () => (await forwarder.states())[0]?.behind === 0, 'it had caught up');
    expect((await forwarder.states())[0]).toMatchObject({ state: 'good' });
  });

  test('a receiver whose certificate is not trusted, or of another name, gets nothing', async () => {
    const other = identity();
    const receiver = await SyslogReceiver.open(other);
    const forwarder = house.begin(syslogTo(receiver.port));
    await house.says(3);
    await until(async () => ((await forwarder.states())[0]?.failures ?? 0) >= 2, 'it had failed');
    expect((await forwarder.states())[0]?.reason).toMatch(/SELF_SIGNED|SIGNATURE|UNABLE/);
    expect(receiver.messages).toEqual([]);
    await receiver.close();
    rmSync(other.folder, { recursive: true });
  });

  test('OTLP: a collector that is away, hangs or refuses gets everything later, in the published form', async () => {
    const collector = await Collector.open(who);
    const url = `https://localhost:${collector.port}/v1/logs`;
    const forwarder = house.begin(new OtlpSink({ url, ca: who.certificate, authorization: 'Bearer t', origin: ORIGIN, personal: true }));
    for (const fault of ['unavailable', 'reset', 'hang'] as const satisfies CollectorFault[]) {
      collector.fault = fault;
      await house.says(40);
      await until(() => (collector.fired[fault] ?? 0) >= (SLOW.has(fault) ? 1 : 2), `the collector was ${fault}`);
    }
    // Nothing stays behind for being sent with too much else.
    collector.fault = 'small';
    await until(async () => (collector.fired.small ?? 0) >= 1 && (await forwarder.states())[0]?.behind === 0, 'it came in small pieces');
    collector.fault = undefined;
    collector.rejects = 2;
    await house.says(40);
    await complete(house, () => recordsIn(collector.requests).map(({ body }) => indexOf(body.stringValue)), collector.fired);
    await until(async () => (await forwarder.states())[0]?.behind === 0, 'it had caught up');
    expect((await forwarder.states())[0]).toMatchObject({ rejected: 2, behind: 0, state: 'good' });
    // A name that the specification has not would be missing, a value of another type would come back as another.
    for (const request of collector.requests) expect(understood(request)).toEqual(request);
    const misspelt = { resourceLogs: [{ scopeLogs: [{ logRecords: [{ timeUnixNano: 1, event_name: 'ekms' }] }] }] };
    expect(understood(misspelt)).toEqual({ resourceLogs: [{ scopeLogs: [{ logRecords: [{ timeUnixNano: '1' }] }] }] });
    expect(collector.headers[0]).toMatchObject({ path: '/v1/logs', authorization: 'Bearer t', 'content-type': 'application/json' });
    expect(recordsIn(collector.requests)[1]).toMatchObject({
      severityText: 'WARN',
      body: { stringValue: expect.stringContaining('fd00::1') },
    });
    await collector.close();
  });
});

eachDatabase((open) => {
  test('two nodes carry to one sink and it gets nothing twice', async () => {
    const house = new House((await open()).storage);
    // Nothing is sent again only for a slow machine's sake.
    const patient = { ...LIMITS, attempt: 20_000 };
    const receiver = await SyslogReceiver.open(who);
    house.begin(syslogTo(receiver.port), patient);
    house.begin(syslogTo(receiver.port), patient);
    await house.says(200);
    await until(() => receiver.messages.length >= 200, 'everything had come');
    await sleep(100);
    expect(receiver.messages.map(indexIn)).toEqual((await house.entries()).map(({ index }) => index));
    await house.end();
    await receiver.close();
  });
});

describe('files for a SIEM', () => {
  const disk = mkdtempSync(join(tmpdir(), 'ekms-siem-'));
  let house: House;
  beforeEach(async () => {
    house = await House.open();
  });
  afterEach(() => house.close());
  afterAll(() => {
    if (isMounted) execFileSync('umount', [disk]);
    rmSync(disk, { recursive: true, force: true });
  });
  const isMounted = mounted(disk);
  const linesIn = (directory: string) =>
    readdirSync(directory)
      .filter((name) => name.startsWith('ekms-audit-'))
      .sort()
      .flatMap((name) => readFileSync(join(directory, name), 'utf8').split('\n').slice(0, -1));

  (isMounted ? test : test.skip)('a full disk: nothing else stops, and no line is lost or torn', async () => {
    const directory = join(disk, 'siem');
    const forwarder = house.begin(
      new FileSink({ directory, form: jsonForm(ORIGIN, false), extension: '.jsonl', bytes: 20_000, keep: 100 }),
    );
    await house.says(100);
    await until(async () => (await forwarder.states())[0]?.behind === 0, 'it was written');
    // Room for a part of the next batch.
    writeFileSync(join(disk, 'filler'), Buffer.alloc(free(disk) - 8_192));
    await house.says(100);
    await until(async () => (await forwarder.states())[0]?.reason === 'ENOSPC', 'the disk was full');
    await house.says(100);
    for (const line of linesIn(directory)) expect(() => indexOf(line)).not.toThrow();
    const { failed: full = 0 } = (await forwarder.states())[0] ?? {};
    rmSync(join(disk, 'filler'));
    await complete(house, () => linesIn(directory).map(indexOf), { full });
    const files = readdirSync(directory).sort();
    expect(files.length).toBeGreaterThan(3);
    expect(files[0]).toBe('ekms-audit-000000000000.jsonl');
  });

  test('half a line that a crash left is taken back; old files go', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ekms-siem-files-'));
    writeFileSync(join(directory, 'ekms-audit-000000000000.cef'), 'CEF:0|EKMS|EKMS|0.1.0|audit.read|a line|3|rt=1\nCEF:0|EKMS|EK');
    house.begin(new FileSink({ directory, form: cefForm(ORIGIN, true), extension: '.cef', bytes: 4_000, keep: 2 }));
    await house.says(6);
    const first = join(directory, 'ekms-audit-000000000000.cef');
    await until(() => readFileSync(first, 'utf8').split('\n').length === 8, 'six lines were added');
    const lines = readFileSync(first, 'utf8').split('\n');
    expect(lines.slice(0, 2)).toEqual([
      'CEF:0|EKMS|EKMS|0.1.0|audit.read|a line|3|rt=1',
      expect.stringMatching(
        /^CEF:0\|EKMS\|EKMS\|0\.1\.0\|key\.deliver\|key\.deliver done\|3\|rt=\d{13} externalId=0 dvchost=keys\.corp\.example outcome=done suid=d1 sproc=device duid=e1 src=10\.1\.0\.1 cs2=d1 cs2Label=device /,
      ),
    ]);
    expect(lines[2]).toContain(' reason=device-unknown sproc=stranger c6a2=fd00::1 c6a2Label=Source IPv6 Address ');
    expect(lines[3]).toContain(' duser=zoë\\=\\\\|@corp.example ');
    await house.says(120);
    await until(
      async () => readdirSync(directory).length === 2 && statSync(join(directory, readdirSync(directory).sort()[0] ?? '')).size >= 4_000,
      'two files were left',
    );
    rmSync(directory, { recursive: true });
  });
});

describe('rsyslogd', () => {
  const FORMS = {
    JSON: { form: jsonForm(ORIGIN, true), index: indexOf },
    CEF: { form: cefForm(ORIGIN, true), index: (line: string) => Number(/ externalId=(\d+) /.exec(line)?.[1]) },
  };
  test.each(['JSON', 'CEF'] as const)(
    'takes what we send as %s, understands it as RFC 5424, and misses nothing when it is stopped or killed',
    async (name) => {
      const { form, index } = FORMS[name];
      const house = await House.open();
      const rsyslog = await Rsyslog.open(who);
      const forwarder = house.begin(syslogTo(rsyslog.port, form));
      const came = () => rsyslog.messages().map(({ msg }) => index(msg));
      try {
        await house.says(100);
        await until(async () => (await forwarder.states())[0]?.behind === 0, 'it had it');
        for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
          await rsyslog.end(signal);
          const before = (await forwarder.states())[0]?.failed ?? 0;
          await house.says(100);
          await until(async () => ((await forwarder.states())[0]?.failed ?? 0) > before, 'it was missed');
          await rsyslog.start();
          await until(async () => (await forwarder.states())[0]?.behind === 0, 'it had caught up');
        }
        await complete(house, came, { stopped: 1, killed: 1 });
        const entries = new Map((await house.entries()).map((entry) => [entry.index, entry]));
        for (const message of rsyslog.messages()) {
          const entry = entries.get(index(message.msg));
          if (!entry) throw new Error(`no entry: ${message.msg}`);
          const { body } = entry;
          const severity = { done: '6', refused: '4', failed: '3' }[body.outcome];
          // Each part as rsyslogd found it, and the whole text to the letter, which is UTF-8 with what syslog's and JSON's grammars make much of.
          expect(message).toEqual({
            ...{ version: '1', facility: '13', severity, time: body.time, host: ORIGIN.host, app: 'ekms' },
            ...{ procid: '-', msgid: body.action.slice(0, 32), structured: '-', msg: form(entry) },
          });
        }
      } finally {
        await house.close();
        await rsyslog.close();
      }
    },
  );
});

function mounted(at: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', at], { stdio: 'ignore' });
    return true;
  } catch {
    process.stderr.write('\n*** SKIPPED: mounting a tmpfs is not permitted here, so the full disk is not tested ***\n');
    return false;
  }
}

const free = (at: string): number => Number(execFileSync('df', ['--output=avail', '-B1', at], { encoding: 'utf8' }).split('\n')[1]);
