import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** A time-stamp authority made of the openssl program, behind HTTP. What it answers can be bent. */
export class TimeStamper {
  /** Instead of the honest reply to a query. */
  reply: ((honest: Buffer) => Buffer) | undefined;
  queries = 0;

  private constructor(
    private readonly server: Server,
    private readonly folder: string,
  ) {}

  static async open(folder: string): Promise<TimeStamper> {
    const server = createServer();
    const stamper = new TimeStamper(server, folder);
    stamper.certify('tsa', 'critical,timeStamping');
    writeFileSync(join(folder, 'serial'), '01\n');
    server.on('request', async (request: IncomingMessage, answer) => {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      stamper.queries += 1;
      const honest = stamper.stamp(Buffer.concat(parts));
      answer.writeHead(200, { 'content-type': 'application/timestamp-reply' }).end(stamper.reply?.(honest) ?? honest);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return stamper;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/tsa`;
  }

  get authoritiesFile(): string {
    return join(this.folder, 'root.pem');
  }

  /** `openssl ts -reply`, by the certificate of this name. */
  stamp(query: Buffer, by = 'tsa'): Buffer {
    const at = (name: string) => join(this.folder, name);
    writeFileSync(at('query'), query);
    this.#openssl(
      'ts',
      '-reply',
      '-config',
      at('ts.conf'),
      '-section',
      'tsa',
      '-queryfile',
      at('query'),
      '-out',
      at('reply'),
      '-signer',
      at(`${by}.pem`),
      '-inkey',
      at(`${by}.key`),
    );
    return readFileSync(at('reply'));
  }

  /** A key and a certificate of a root of this folder, made when there is none. */
  certify(name: string, usage: string): void {
    const at = (file: string) => join(this.folder, file);
    const key = (file: string) => this.#openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', at(file));
    writeFileSync(at('ts.conf'), CONFIGURATION.replaceAll('FOLDER', this.folder));
    writeFileSync(at('ext'), `extendedKeyUsage=${usage}\nkeyUsage=critical,digitalSignature\n`);
    const root = `${name === 'tsa' ? 'root' : `${name}-root`}`;
    key(`${root}.key`);
    this.#openssl('req', '-x509', '-new', '-key', at(`${root}.key`), '-subj', `/CN=${root}`, '-days', '30', '-out', at(`${root}.pem`));
    key(`${name}.key`);
    this.#openssl('req', '-new', '-key', at(`${name}.key`), '-subj', `/CN=${name} of the tests`, '-out', at('request'));
    const issuer = ['-CA', at(`${root}.pem`), '-CAkey', at(`${root}.key`), '-CAcreateserial', '-extfile', at('ext')];
    this.#openssl('x509', '-req', '-in', at('request'), ...issuer, '-days', '30', '-out', at(`${name}.pem`));
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #openssl(...words: string[]): void {
    execFileSync('openssl', words, { cwd: this.folder, stdio: 'pipe' });
  }
}

const CONFIGURATION = `[tsa]
serial = FOLDER/serial
crypto_device = builtin
default_policy = 1.2.3.4.1
digests = sha256, sha384
signer_digest = sha256
ordering = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
`;
