import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttps, type Server as HttpsServer } from 'node:https';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTls, type Server, type TLSSocket } from 'node:tls';
import { freePorts } from '../../src/demo/programs.js';

export interface Identity {
  folder: string;
  /** PEM, and where they lie. */
  certificate: string;
  key: string;
  certificateFile: string;
  keyFile: string;
}

/** A certificate of this machine's loopback, by openssl. */
export function identity(): Identity {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-receiver-'));
  const [certificateFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', keyFile, '-out', certificateFile];
  const names = ['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...made, '-days', '30', '-subj', '/CN=localhost', ...names], { stdio: 'pipe' });
  return { folder, certificateFile, keyFile, certificate: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
}

/** `dead`: nothing listens. `mute`: takes everything, never ends its side. `hang`: accepts and reads nothing. */
export type SyslogFault = 'dead' | 'mute' | 'reset' | 'early-end' | 'hang' | 'slow';

/** A receiver of RFC 5425 that can be any kind of broken, and counts how often it was. */
export class SyslogReceiver {
  readonly messages: string[] = [];
  readonly fired: Partial<Record<SyslogFault, number>> = {};
  fault: SyslogFault | undefined;
  #server: Server | undefined;
  readonly #open = new Set<Socket>();

  private constructor(
    private readonly who: Identity,
    readonly port: number,
  ) {}

  static async open(who: Identity): Promise<SyslogReceiver> {
    const [port = 0] = await freePorts(1);
    const receiver = new SyslogReceiver(who, port);
    await receiver.listen();
    return receiver;
  }

  async listen(): Promise<void> {
    this.#server = createTls({ key: this.who.key, cert: this.who.certificate, allowHalfOpen: true }, (socket) => this.#take(socket));
    this.#server.on('tlsClientError', () => undefined);
    this.#server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.on('close', () => this.#open.delete(socket));
    });
    this.#server.listen(this.port, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  async close(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    const server = this.#server;
    this.#server = undefined;
    if (server) await new Promise((resolve) => server.close(resolve));
  }

  #take(socket: TLSSocket): void {
    const { fault } = this;
    socket.on('error', () => undefined);
    if (fault) this.fired[fault] = (this.fired[fault] ?? 0) + 1;
    if (fault === 'hang') {
      socket.pause();
      return;
    }
    if (fault === 'early-end') socket.end();
    const pieces: Buffer[] = [];
    socket.on('data', (piece: Buffer) => {
      if (fault === 'reset') socket.destroy();
      else pieces.push(piece);
      if (fault === 'slow') {
        socket.pause();
        setTimeout(() => socket.resume(), 20);
      }
    });
    socket.on('end', () => {
      // Who did not read it all has got nothing.
      if (fault !== 'early-end' && fault !== 'reset') this.messages.push(...frames(Buffer.concat(pieces)));
      if (fault !== 'mute') socket.end();
    });
  }
}

/** RFC 5425 §4.3: MSG-LEN SP SYSLOG-MSG, one after the other; one that was cut off is none. Throws for anything else. */
export function frames(bytes: Buffer): string[] {
  const all: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [head = '', digits = ''] = /^([1-9]\d*) /.exec(bytes.toString('latin1', at, at + 8)) ?? [];
    const end = at + head.length + Number(digits);
    if (!head && bytes.length - at >= 8) throw new Error(`no frame at ${at}`);
    if (!head || end > bytes.length) break;
    all.push(bytes.toString('utf8', at + head.length, end));
    at = end;
  }
  return all;
}

/** The parts of RFC 5424 (§6) as rsyslogd found them: our name, its property. */
const PARTS = {
  ...{ version: 'protocol-version', facility: 'syslogfacility', severity: 'syslogseverity', host: 'hostname', app: 'app-name' },
  ...{ procid: 'procid', msgid: 'msgid', structured: 'structured-data', msg: 'msg' },
} as const;
export type Parsed = Record<keyof typeof PARTS | 'time', string>;

/** rsyslog's own daemon, on TLS by OpenSSL, writing what it took apart into a file, one JSON object a line. */
export class Rsyslog {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ekms-rsyslog-'));
  #child: ChildProcess | undefined;
  private constructor(
    private readonly who: Identity,
    readonly port: number,
  ) {}

  static async open(who: Identity): Promise<Rsyslog> {
    const [port = 0] = await freePorts(1);
    const rsyslog = new Rsyslog(who, port);
    rsyslog.#write();
    await rsyslog.start();
    return rsyslog;
  }

  async start(): Promise<void> {
    const folder = this.#folder;
    rmSync(join(folder, 'rsyslog.pid'), { force: true });
    const child = spawn('/usr/sbin/rsyslogd', ['-n', '-f', join(folder, 'rsyslog.conf'), '-i', join(folder, 'rsyslog.pid')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#child = child;
    let said = '';
    child.stderr.on('data', (piece: Buffer) => {
      said = (said + piece.toString()).slice(-2_000);
    });
    for (const until = Date.now() + 30_000; !(await isListening(this.port)); await sleep(25))
      if (child.exitCode !== null || Date.now() > until) throw new Error(`rsyslogd does not listen (${child.exitCode}): ${said}`);
  }

  /** SIGTERM: as systemd stops it. SIGKILL: as a power cut does. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  async close(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }

  messages(): Parsed[] {
    const file = join(this.#folder, 'out.log');
    if (!existsSync(file)) return [];
    const text = readFileSync(file, 'utf8');
    return text
      .slice(0, text.lastIndexOf('\n') + 1) // what is being written is no line yet
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Parsed);
  }

  #write(): void {
    const { certificateFile, keyFile } = this.who;
    const folder = this.#folder;
    const parts = Object.entries(PARTS).map(
      ([name, property]) => `property(outname="${name}" name="${property}" format="jsonf") constant(value=",")`,
    );
    writeFileSync(
      join(folder, 'rsyslog.conf'),
      `global(workDirectory="${folder}" DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="${certificateFile}"
  DefaultNetstreamDriverCertFile="${certificateFile}" DefaultNetstreamDriverKeyFile="${keyFile}" maxMessageSize="70k")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" port="${this.port}" address="127.0.0.1")
template(name="parts" type="list") {
  constant(value="{") ${parts.join('\n  ')}
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf") constant(value="}\\n")
}
action(type="omfile" file="${join(folder, 'out.log')}" template="parts")
`,
    );
  }
}

async function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** `small`: takes no body of more than eight thousand bytes. */
export type CollectorFault = 'dead' | 'unavailable' | 'reset' | 'hang' | 'small';

/** A collector that takes OTLP/HTTP, or does not. */
export class Collector {
  readonly requests: unknown[] = [];
  readonly headers: Record<string, unknown>[] = [];
  readonly fired: Partial<Record<CollectorFault, number>> = {};
  fault: CollectorFault | undefined;
  /** Log records that the next answer says it would not keep. */
  rejects = 0;
  private constructor(
    readonly port: number,
    private readonly server: HttpsServer,
  ) {}

  static async open(who: Identity): Promise<Collector> {
    const holder: { collector?: Collector } = {};
    const server = createHttps({ key: who.key, cert: who.certificate }, (request, response) => {
      const { collector } = holder;
      if (!collector) return;
      let { fault } = collector;
      if (fault === 'small' && Number(request.headers['content-length']) <= 8_000) fault = undefined;
      if (fault) collector.fired[fault] = (collector.fired[fault] ?? 0) + 1;
      if (fault === 'hang') return;
      if (fault === 'reset') return void request.socket.destroy();
      let body = '';
      request.setEncoding('utf8').on('data', (piece: string) => {
        body += piece;
      });
      request.on('end', () => {
        if (fault) return void response.writeHead(fault === 'small' ? 413 : 503).end();
        collector.requests.push(JSON.parse(body));
        collector.headers.push({ ...request.headers, path: request.url });
        const answer = collector.rejects > 0 ? { partialSuccess: { rejectedLogRecords: String(collector.rejects) } } : {};
        collector.rejects = 0;
        response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const collector = new Collector(address !== null && typeof address === 'object' ? address.port : 0, server);
    holder.collector = collector;
    return collector;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}
