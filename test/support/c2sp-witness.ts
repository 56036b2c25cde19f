import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A log that it takes heads of: its name, and the 32 bytes of its Ed25519 key. */
export interface WitnessedLog {
  origin: string;
  publicKey: Buffer;
}

/**
 * A witness written from https://c2sp.org/tlog-witness, tlog-cosignature, signed-note and RFC 9162 §2.1.4.2; it shares nothing with the appliance's code.
 * What it remembers can be looked at and bent.
 */
export class C2spWitnessServer {
  readonly name = 'witness.example/w1';
  readonly remembered = new Map<string, { size: number; root: Buffer }>();
  /** Requests answered, by status. */
  readonly answered: number[] = [];
  /** Signs with another key than it says. */
  lies = false;
  readonly #key: KeyObject;
  readonly #public: Buffer;

  private constructor(
    private readonly server: Server,
    private readonly logs: readonly WitnessedLog[],
  ) {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    this.#key = privateKey;
    this.#public = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  }

  static async open(logs: readonly WitnessedLog[]): Promise<C2spWitnessServer> {
    const server = createServer();
    const witness = new C2spWitnessServer(server, logs);
    server.on('request', async (request: IncomingMessage, answer) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      const { status, body, type } =
        request.method === 'POST' && request.url === '/w/add-checkpoint'
          ? witness.#add(Buffer.concat(parts).toString('utf8'))
          : { status: 404, body: '', type: 'text/plain' };
      witness.answered.push(status);
      answer.writeHead(status, { 'content-type': type }).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return witness;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/w`;
  }

  get key(): string {
    const id = sha256(Buffer.from(`${this.name}\n`), Buffer.of(4), this.#public).subarray(0, 4);
    return `${this.name}+${id.toString('hex')}+${Buffer.concat([Buffer.of(4), this.#public]).toString('base64')}`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #add(body: string): { status: number; body: string; type: string } {
    const plain = (status: number) => ({ status, body: '', type: 'text/plain' });
    const blank = body.indexOf('\n\n');
    const [first = '', ...proofLines] = body.slice(0, blank).split('\n');
    const note = body.slice(blank + 2);
    const end = note.indexOf('\n\n') + 1;
    const [text, signatures] = [note.slice(0, end), note.slice(end + 1)];
    const [origin = '', size = '', root = ''] = text.split('\n');
    const old = Number(/^old (0|[1-9]\d*)$/.exec(first)?.[1] ?? Number.NaN);
    const log = this.logs.find((one) => one.origin === origin);
    if (!log) return plain(404);
    const id = sha256(Buffer.from(`${origin}\n`), Buffer.of(1), log.publicKey).subarray(0, 4);
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), log.publicKey]);
    const isSigned = signatures.split('\n').some((line) => {
      const [dash, name, encoded = ''] = line.split(' ');
      const bytes = Buffer.from(encoded, 'base64');
      const isOurs = dash === '—' && name === origin && bytes.subarray(0, 4).equals(id);
      return isOurs && verify(null, Buffer.from(text), { key: spki, format: 'der', type: 'spki' }, bytes.subarray(4));
    });
    if (!isSigned) return plain(403);
    if (!(old <= Number(size))) return plain(400);
    const known = this.remembered.get(origin) ?? { size: 0, root: Buffer.alloc(0) };
    if (known.size !== old) return { status: 409, body: `${known.size}\n`, type: 'text/x.tlog.size' };
    const head = { size: Number(size), root: Buffer.from(root, 'base64') };
    if (known.size === head.size && !known.root.equals(head.root)) return plain(409);
    const proof = proofLines.map((line) => Buffer.from(line, 'base64'));
    if (!extendsIt(known, head, proof)) return plain(422);
    this.remembered.set(origin, head);
    const time = Buffer.alloc(8);
    time.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 1000)));
    const message = Buffer.from(`cosignature/v1\ntime ${time.readBigUInt64BE()}\n${text}`);
    const key = this.lies ? generateKeyPairSync('ed25519').privateKey : this.#key;
    const blob = Buffer.concat([
      sha256(Buffer.from(`${this.name}\n`), Buffer.of(4), this.#public).subarray(0, 4),
      time,
      sign(null, message, key),
    ]);
    return { status: 200, body: `— ${this.name} ${blob.toString('base64')}\n`, type: 'text/plain' };
  }
}

const sha256 = (...parts: Buffer[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const node = (left: Buffer, right: Buffer): Buffer => sha256(Buffer.of(1), left, right);

/** RFC 9162 §2.1.4.2, by its own steps. */
function extendsIt(before: { size: number; root: Buffer }, after: { size: number; root: Buffer }, given: readonly Buffer[]): boolean {
  if (before.size === 0 || before.size === after.size) return given.length === 0;
  const proof = [...given];
  if (Number.isInteger(Math.log2(before.size))) proof.unshift(before.root);
  let [fn, sn] = [before.size - 1, after.size - 1];
  while (fn % 2 === 1) [fn, sn] = [(fn - 1) / 2, Math.floor(sn / 2)];
  const start = proof.shift();
  if (!start) return false;
  let [fr, sr] = [start, start];
  for (const c of proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      [fr, sr] = [node(c, fr), node(c, sr)];
      while (fn !== 0 && fn % 2 === 0) [fn, sn] = [fn / 2, Math.floor(sn / 2)];
    } else sr = node(sr, c);
    [fn, sn] = [Math.floor(fn / 2), Math.floor(sn / 2)];
  }
  return sn === 0 && fr.equals(before.root) && sr.equals(after.root);
}
