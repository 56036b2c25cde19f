import { generateKeyPairSync } from 'node:crypto';
import { type SignedRequest, signatureHolds, signatureParameters } from '../codec/http-signature.js';
import { type AuditActor, type AuditLog, type Clock, Fault, newId, orRefused, type Storage, type Unit } from '../foundation/index.js';
import type { AppActor } from './actor.js';
import type { Request } from './request.js';

/** The file that IT ships with the managed app (docs/formats/enrolment.md). It holds a private key; EKMS keeps the public one only. */
export interface AppCredentialFile {
  v: 1;
  id: string;
  platform: string;
  server: string;
  /** SHA-256 of the root certificate, base64url. */
  ca: string;
  key: string;
}

/** How far a client's clock may be off, in seconds; a nonce is remembered for as long. */
const SKEW = 300;

export class AppCredentials {
  constructor(
    readonly storage: Storage,
    readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly appliance: { publicName: string; rootDigest: string },
  ) {}

  async issue(platform: string, by: AuditActor): Promise<AppCredentialFile> {
    if (!/^[a-z0-9][a-z0-9._-]{0,31}$/.test(platform))
      throw new Fault('malformed', 'platform-malformed', 'a platform is a short name such as linux, windows, macos, ios or android');
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const id = newId();
    await this.storage.write(async (unit) => {
      await unit.run('INSERT INTO apps (id, platform, public_key, state, created) VALUES (?, ?, ?, ?, ?)', [
        id,
        platform,
        publicKey.export({ type: 'spki', format: 'der' }),
        'active',
        this.clock.now().getTime(),
      ]);
      await this.audit.append(unit, { action: 'app.issue', outcome: 'done', actor: by, subject: id, facts: { platform } });
    });
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    return { v: 1, id, platform, server: this.appliance.publicName, ca: this.appliance.rootDigest, key };
  }

  async revoke(id: string, by: AuditActor): Promise<void> {
    await this.storage.write(async (unit) => {
      const changed = await unit.run("UPDATE apps SET state = 'revoked' WHERE id = ? AND state = 'active'", [id]);
      if (changed === 0) throw new Fault('not-found', 'app-unknown', 'there is no active app credential of this id');
      await this.audit.append(unit, { action: 'app.revoke', outcome: 'done', actor: by, subject: id });
    });
  }

  async list(): Promise<{ id: string; platform: string; state: string; created: number }[]> {
    return this.storage.all('SELECT id, platform, state, created FROM apps ORDER BY created');
  }

  /** Rejects with `app-signature-malformed`, `app-unknown`, `app-signature-wrong`, `app-clock`; each refusal is an entry. */
  async admit(signed: SignedRequest, request: Request): Promise<AppActor> {
    return orRefused(
      this,
      { action: 'app.admit', actor: { kind: 'stranger' }, request: request.id, personal: { network: request.network } },
      () => this.#admit(signed, request),
    );
  }

  async #admit(signed: SignedRequest, request: Request): Promise<AppActor> {
    const { keyid, nonce, created } = signatureParameters(signed);
    const app = await this.storage.one<{ platform: string; public_key: Buffer; state: string }>(
      'SELECT platform, public_key, state FROM apps WHERE id = ?',
      [keyid],
    );
    if (app?.state !== 'active')
      throw new Fault('unauthenticated', 'app-unknown', 'this app credential is not known here or has been revoked');
    if (!signatureHolds(signed, app.public_key))
      throw new Fault('unauthenticated', 'app-signature-wrong', 'the signature of the app credential does not fit the request');
    if (Math.abs(this.clock.now().getTime() / 1000 - created) > SKEW)
      throw new Fault(
        'unauthenticated',
        'app-clock',
        'the request was signed more than five minutes from now by this server; set the clock right',
      );
    return { kind: 'app', id: keyid, platform: app.platform, nonce, request };
  }

  /** Uses the request's nonce up, inside the unit of what the request does. Throws `app-replayed`. */
  async spendNonce(unit: Unit, app: AppActor): Promise<void> {
    const now = this.clock.now().getTime();
    const fresh = await unit.run('INSERT INTO app_nonces (app, nonce, expires) VALUES (?, ?, ?) ON CONFLICT DO NOTHING', [
      app.id,
      app.nonce,
      now + 2 * SKEW * 1000,
    ]);
    if (fresh === 0) throw new Fault('unauthenticated', 'app-replayed', 'this signed request has been used before');
  }
}
