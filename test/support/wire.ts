import { type KeyObject, X509Certificate } from 'node:crypto';
import { type RequestOptions, request } from 'node:https';

export interface WireReply {
  status: number;
  /** Names as sent, in the order sent. */
  headers: [string, string][];
  body: Buffer;
  /** The body where it is JSON. */
  json: unknown;
}

export interface WireAsk {
  port: number;
  /** PEM of the only authority that is trusted. */
  root: string;
  method?: string;
  path: string;
  body?: Buffer | string | undefined;
  headers?: Record<string, string>;
  /** What the TLS client shows: any certificate, ours or not. */
  identity?: { certificates: string; key: KeyObject } | undefined;
}

/** One HTTPS request on a connection of its own, as anybody could send it: nothing is checked or repaired on the way. */
export function send({ port, root, method = 'GET', path, body, headers = {}, identity }: WireAsk): Promise<WireReply> {
  const tls: RequestOptions = identity ? { cert: identity.certificates, key: identity.key.export({ type: 'pkcs8', format: 'pem' }) } : {};
  const length = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) };
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        host: 'localhost',
        port,
        method,
        path,
        ca: [root],
        agent: false,
        minVersion: 'TLSv1.3',
        ...tls,
        headers: { ...length, ...headers },
      },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.on('error', reject);
        response.on('end', () => {
          const bytes = Buffer.concat(pieces);
          const raw = response.rawHeaders;
          const named = raw.flatMap((name, at): [string, string][] => (at % 2 === 0 ? [[name, raw[at + 1] ?? '']] : []));
          resolve({ status: response.statusCode ?? 0, headers: named, body: bytes, json: parse(bytes) });
        });
      },
    );
    asked.setTimeout(30_000, () => asked.destroy(new Error(`${method} ${path}: no answer within 30 s`)));
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Status and stable code of a refusal, as a test wants to compare it: `403 not-the-owner`. */
export function refusal({ status, json }: WireReply): string {
  const code = typeof json === 'object' && json !== null && 'code' in json ? String(json.code) : '-';
  return `${status} ${code}`;
}

export const derOf = (pem: string): Buffer => new X509Certificate(pem).raw;

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
