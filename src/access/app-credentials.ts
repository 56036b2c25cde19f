import { generateKeyPairSync } from 'node:crypto';
import { type SignedRequest, signatureHolds, signatureParameters } from '../codec/http-signature.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  newId,
  orRefused,
  type Storage,
  sameBytes,
  type Unit,
} from '../foundation/index.js';
import { intend } from '../storage/index.js';
import type { AppActor } from './actor.js';
import type { Request } from './request.js';
import type { RowSeal } from './row-seal.js';

/** The file that IT ships with the managed app (docs/formats/enrolment.md). It holds a private key; EKMS keeps the public one only. */
export interface AppCredentialFile {
  v: 1;
  id: string;
  platform: string;
  release?: string;
  server: string;
  /** SHA-256 of the root certificate, base64url. */
  ca: string;
  key: string;
}

interface StoredApp {
  id: string;
  platform: string;
  release: string | null;
  /** SPKI, DER. */
  public_key: Buffer;
  state: 'active' | 'revoked' | 'stopped';
  created: number;
}

/** How far a client's clock may be off, in seconds; a nonce is remembered for as long. */
const SKEW = 300;

export class AppCredentials {
  constructor(
    readonly storage: Storage,
    readonly audit: AuditLog,
    private readonly seal: RowSeal,
    private readonly clock: Clock,
    private readonly appliance: { publicName: string; rootDigest: string },
  ) {}

  /** @param release of the client that it is shipped with, so that one release can be withdrawn without the others */
  async issue(platform: string, by: AuditActor, release?: string): Promise<AppCredentialFile> {
    if (!/^[a-z0-9][a-z0-9._-]{0,31}$/.test(platform))
      throw new Fault('malformed', 'platform-malformed', 'a platform is a short name such as linux, windows, macos, ios or android');
    if (release !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$/.test(release))
      throw new Fault('malformed', 'release-malformed', 'a release is a short word such as 2.4.1');
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const app: StoredApp = {
      id: newId(),
      platform,
      release: release ?? null,
      public_key: publicKey.export({ type: 'spki', format: 'der' }),
      state: 'active',
      created: this.clock.now().getTime(),
    };
    const { id } = app;
    await this.storage.write(async (unit) => {
      await unit.run('INSERT INTO apps (id, platform, release, public_key, state, created, mac) VALUES (?, ?, ?, ?, ?, ?, ?)', [
        ...[id, platform, app.release, app.public_key, app.state, app.created],
        this.#mac(app),
      ]);
      const facts = { platform, ...(release ? { release } : {}) };
      await this.audit.append(unit, { action: 'app.issue', outcome: 'done', actor: by, subject: id, facts });
    });
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const { publicName, rootDigest } = this.appliance;
    return { v: 1, id, platform, ...(release ? { release } : {}), server: publicName, ca: rootDigest, key };
  }

  /**
   * Ends a credential. With `devices`, whatever was enrolled with it gets nothing from this unit on; ending each is the caller's, and that of the next
   * start where a crash comes between.
   */
  async revoke(id: string, by: AuditActor, devices = false): Promise<void> {
    const state = devices ? 'stopped' : 'revoked';
    await this.storage.write(async (unit) => {
      const app = await unit.one<StoredApp>('SELECT id, platform, release, public_key, state, created FROM apps WHERE id = ?', [id]);
      // One that was revoked alone may be revoked with its devices later.
      if (!app || app.state === 'stopped' || app.state === state)
        throw new Fault('not-found', 'app-unknown', 'there is no active app credential of this id');
      await unit.run('UPDATE apps SET state = ?, mac = ? WHERE id = ?', [state, this.#mac({ ...app, state }), id]);
      if (devices) await intend(unit, id, 'end-devices', {}, this.clock);
      await this.audit.append(unit, { action: 'app.revoke', outcome: 'done', actor: by, subject: id, facts: { devices } });
    });
  }

  async list(): Promise<{ id: string; platform: string; release: string | null; state: string; created: number }[]> {
    return this.storage.all('SELECT id, platform, release, state, created FROM apps ORDER BY created');
  }

  #isSealed({ mac, ...app }: StoredApp & { mac: Buffer | null }): boolean {
    return mac !== null && sameBytes(this.#mac(app), mac);
  }

  #mac({ public_key, ...row }: StoredApp): Buffer {
    return this.seal.mac('apps', { ...row, public_key: base64url(public_key) });
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
    const app = await this.storage.one<StoredApp & { mac: Buffer | null }>(
      'SELECT id, platform, release, public_key, state, created, mac FROM apps WHERE id = ?',
      [keyid],
    );
    if (app?.state !== 'active' || !this.#isSealed(app))
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
