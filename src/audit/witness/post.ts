import { request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';

export interface Reply {
  status: number;
  type: string;
  body: Buffer;
}

/** Whoever vouches for a head answers with a signature and little more. */
const MOST_BYTES = 64 * 1024;

/**
 * POST to somebody of whom nothing is believed yet: what comes back has an end in time and size.
 * @param ca PEM; without it, the system's authorities
 */
export function post(url: string, of: { type: string; body: Buffer; timeoutMs: number; ca?: string | undefined }): Promise<Reply> {
  const { type, body, timeoutMs, ca } = of;
  const send = new URL(url).protocol === 'https:' ? tlsRequest : plainRequest;
  const headers = { 'content-type': type, 'content-length': body.length };
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise<Reply>((resolve, reject) => {
    const asked = send(url, { method: 'POST', headers, signal, ...(ca === undefined ? {} : { ca: [ca] }) }, (answer) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      answer.on('error', reject);
      answer.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > MOST_BYTES) answer.destroy(new Error('it says too much'));
        else parts.push(part);
      });
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, type: answer.headers['content-type'] ?? '', body: Buffer.concat(parts) }),
      );
    });
    asked.on('error', reject);
    asked.end(body);
  });
}
