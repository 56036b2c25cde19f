import { Agent, type RequestOptions, request } from 'node:https';
import { Fault } from '../../../src/foundation/index.js';
import { problemOf } from './problem.js';
import { CLIENT_VERSION } from './version.js';

export interface TransportOptions {
  /** `https://host:port` */
  server: string;
  /** The only authority that is trusted: PEM. */
  root: string;
  /** The device's certificate chain and identity key, PEM; absent before it has any. */
  identity?: { certificates: string; key: string };
  timeoutMs?: number;
}

export interface Answer {
  status: number;
  body: unknown;
  /** Seconds. */
  retryAfter: number | undefined;
}

const TIMEOUT_MS = 30_000;
/** 200 keys of RSA-4096 with their certificates are about 3 MB. */
const MAX_ANSWER = 16 << 20;

/** JSON over HTTPS: TLS 1.3 only, the pinned root only, connections kept alive, every answer bounded in time and size. */
export class Transport {
  readonly #options: TransportOptions;
  readonly #origin: URL;
  readonly #agent: Agent;

  constructor(options: TransportOptions) {
    this.#options = options;
    this.#origin = parseServer(options.server);
    const identity = options.identity && { cert: options.identity.certificates, key: options.identity.key };
    this.#agent = new Agent({ keepAlive: true, maxSockets: 4, minVersion: 'TLSv1.3', ca: [options.root], ...identity });
  }

  /** Resolves with any 2xx; another status rejects with an ApiProblem, silence and broken connections with a Fault. */
  async send(method: string, path: string, body?: Buffer, fields: Record<string, string> = {}): Promise<Answer> {
    const headers = {
      accept: 'application/json, application/problem+json',
      'ekms-client': CLIENT_VERSION,
      ...(body && { 'content-type': 'application/json', 'content-length': body.length }),
      ...fields,
    };
    const answer = await this.#exchange({ method, path, headers }, body);
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw problemOf(answer.status, answer.body, answer.retryAfter);
  }

  close(): void {
    this.#agent.destroy();
  }

  #exchange(options: RequestOptions, body: Buffer | undefined): Promise<Answer> {
    const { hostname, port } = this.#origin;
    const where = { host: hostname.replace(/^\[|\]$/g, ''), port: port || 443, agent: this.#agent };
    return new Promise((resolve, reject) => {
      const asked = request({ ...options, ...where }, (response) => {
        const pieces: Buffer[] = [];
        let size = 0;
        response.on('data', (piece: Buffer) => {
          size += piece.length;
          if (size > MAX_ANSWER) asked.destroy(new Fault('unavailable', 'answer-too-large', 'the server answered with more than 16 MiB'));
          pieces.push(piece);
        });
        response.on('error', (error) => reject(this.#explain(error)));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            body: parseJson(Buffer.concat(pieces)),
            retryAfter: seconds(response.headers['retry-after']),
          }),
        );
      });
      const late = () => asked.destroy(new Fault('unavailable', 'server-timeout', `${this.#options.server} did not answer in time`));
      const timer = setTimeout(late, this.#options.timeoutMs ?? TIMEOUT_MS);
      asked.on('error', (error) => reject(this.#explain(error)));
      asked.on('close', () => clearTimeout(timer));
      asked.end(body);
    });
  }

  #explain(error: Error & { code?: string; reason?: string }): Error {
    if (error instanceof Fault) return error;
    const { server } = this.#options;
    const code = error.code ?? '';
    if (/CERT|SELF_SIGNED|UNABLE_TO|ISSUER/.test(code) && !code.includes('ALERT'))
      return new Fault(
        'forbidden',
        'server-untrusted',
        `${server} did not prove itself by a certificate of the pinned root (${code}): nothing was sent`,
      );
    if (code.includes('ALERT'))
      return new Fault(
        'forbidden',
        'tls-refused',
        `${server} refused the TLS connection (${error.reason ?? code}): is this device still enrolled?`,
      );
    return new Fault(
      'unavailable',
      'server-unreachable',
      `${server} cannot be reached (${code || 'connection broken'}): check the address and the network`,
    );
  }
}

export function parseServer(server: string): URL {
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (url?.protocol !== 'https:' || url.pathname !== '/' || url.search || url.username)
    throw new Fault('misconfigured', 'server-malformed', `the server is given as https://host:port, not as "${server}"`);
  return url;
}

/** RFC 9110 §10.2.3, the form in seconds. */
const seconds = (field: string | undefined): number | undefined =>
  field !== undefined && /^\d{1,6}$/.test(field) ? Number(field) : undefined;

function parseJson(bytes: Buffer): unknown {
  try {
    return bytes.length === 0 ? undefined : JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
