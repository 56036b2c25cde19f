import { createHash, createPrivateKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import * as z from 'zod/mini';
import { Fault } from '../../../src/foundation/index.js';

const file = z.object({ v: z.literal(1), id: z.string(), platform: z.string(), server: z.string(), ca: z.string(), key: z.string() });

/** What IT ships with the managed client: it signs enrolment requests, and pins server and root (docs/formats/enrolment.md). */
export interface AppCredential {
  id: string;
  platform: string;
  /** Public name of the appliance. */
  server: string;
  /** base64url SHA-256 of the root certificate's DER. */
  ca: string;
  key: KeyObject;
}

export function readAppCredential(text: string): AppCredential {
  try {
    const { id, platform, server, ca, key } = file.parse(JSON.parse(text));
    const credential = { id, platform, server, ca, key: createPrivateKey(key) };
    if (credential.key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new Error('not P-256');
    return credential;
  } catch {
    throw new Fault('misconfigured', 'app-credential-malformed', 'this is no app credential: it is the file that "ekms app issue" writes');
  }
}

/** RFC 9421 §2.5, RFC 9530 §2: the header fields that sign one request. */
export function signedFields(app: AppCredential, method: string, path: string, body: Buffer, now: Date): Record<string, string> {
  const digest = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;
  const created = Math.floor(now.getTime() / 1000);
  const nonce = randomBytes(16).toString('base64url');
  const parameters = `("@method" "@path" "content-digest");created=${created};nonce="${nonce}";keyid="${app.id}";alg="ecdsa-p256-sha256"`;
  const base = [`"@method": ${method}`, `"@path": ${path}`, `"content-digest": ${digest}`, `"@signature-params": ${parameters}`].join('\n');
  const signature = sign('sha256', Buffer.from(base), { key: app.key, dsaEncoding: 'ieee-p1363' });
  return { 'content-digest': digest, 'signature-input': `ekms=${parameters}`, signature: `ekms=:${signature.toString('base64')}:` };
}
