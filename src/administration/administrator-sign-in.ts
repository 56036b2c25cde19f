import type { z } from 'zod';
import { type AdministratorActor, type Request, type Sessions } from '../access/index.js';
import { type AuditActor, type AuditLog, type Clock, Fault, isFault, orRefused, type Storage } from '../foundation/index.js';
import type { Administrator, Administrators } from './administrators.js';
import { type assertion, type attestation, type Passkeys, passkeyDigest, passkeyFacts } from './passkeys.js';

/** Milliseconds after the last full proof within which somebody may do what is dangerous. */
const FRESH = 5 * 60_000;

const by = ({ id }: AdministratorActor): AuditActor => ({ kind: 'administrator', id });

/** Administrators at their browser: signing in by passkey, proving again that it is still them, and looking after their own passkeys. */
export class AdministratorSignIn {
  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      clock: Clock;
      passkeys: Passkeys;
      sessions: Sessions;
      administrators: Administrators;
    },
  ) {}

  /** The same for everybody: the browser knows which passkeys it has. */
  options(request: Request) {
    return this.parts.passkeys.requestOptions('sign-in', '', request);
  }

  /**
   * Rejects as `Passkeys.asserted`. A session that the browser still had ends: each sign-in has a token of its own.
   * @param cookies as the browser sent them
   */
  async signIn(
    response: z.output<typeof assertion>,
    cookies: string | undefined,
    request: Request,
  ): Promise<{ administrator: Administrator; cookie: string }> {
    const { passkeys, sessions, administrators, storage } = this.parts;
    const event = {
      action: 'administrator.sign-in',
      actor: { kind: 'stranger' },
      request: request.id,
      personal: { network: request.network },
    } as const;
    return orRefused(this.parts, event, async () => {
      const asserted = await passkeys.asserted('sign-in', response, request);
      const administrator = await administrators.active(asserted.passkey.administrator);
      const before = await sessions.admit('administration', cookies, request).catch((error: unknown) => {
        if (isFault(error) && error.kind === 'unauthenticated') return undefined;
        throw error;
      });
      const actor = { kind: 'administrator', id: administrator.id } as const;
      return storage.write(async (unit) => {
        await passkeys.settle(unit, asserted);
        if (before) await sessions.end(unit, before.id, actor);
        const how = { audience: 'administration', subject: administrator.id, method: 'passkey' } as const;
        return { administrator, cookie: (await sessions.begin(unit, how, actor, request)).cookie };
      });
    });
  }

  async signOut(actor: AdministratorActor): Promise<string> {
    await this.parts.storage.write((unit) => this.parts.sessions.end(unit, actor.session.id, by(actor)));
    return this.parts.sessions.endingCookie('administration');
  }

  async proofOptions(actor: AdministratorActor) {
    const allow = await this.parts.passkeys.of(actor.id);
    return this.parts.passkeys.requestOptions('prove', actor.session.id, actor.request, { allow });
  }

  /** Proves the person behind a session anew, for `requireFresh`. */
  async prove(actor: AdministratorActor, response: z.output<typeof assertion>): Promise<void> {
    const { passkeys, sessions, storage } = this.parts;
    const asserted = await passkeys.asserted('prove', response, actor.request);
    if (asserted.subject !== actor.session.id || asserted.passkey.administrator !== actor.id)
      throw new Fault('unauthenticated', 'passkey-refused', 'this passkey is not of the person who signed in');
    await storage.write(async (unit) => {
      await passkeys.settle(unit, asserted);
      await sessions.renewProof(unit, actor.session.id);
    });
  }

  /** Throws `proof-needed` when this person's last full proof is more than five minutes old. */
  requireFresh(actor: AdministratorActor): void {
    if (this.parts.clock.now().getTime() >= actor.session.proved + FRESH)
      throw new Fault('unauthenticated', 'proof-needed', 'prove with your passkey that it is still you');
  }

  async passkeyOptions(actor: AdministratorActor) {
    this.requireFresh(actor);
    const { name, address } = await this.parts.administrators.active(actor.id);
    return this.parts.passkeys.creationOptions({ id: actor.id, name, shown: address }, actor.id, actor.request);
  }

  /** Rejects with `passkey-taken`, or as `Passkeys.attested`. */
  async addPasskey(actor: AdministratorActor, name: string, response: z.output<typeof attestation>): Promise<void> {
    this.requireFresh(actor);
    const { passkeys, storage, audit } = this.parts;
    const fresh = await passkeys.attested(response, actor.request);
    if (fresh.subject !== actor.id) throw new Fault('unauthenticated', 'passkey-refused', 'this passkey was made for somebody else');
    const entry = { action: 'passkey.add', outcome: 'done', actor: by(actor), subject: actor.id, request: actor.request.id } as const;
    try {
      await storage.write(async (unit) => {
        await passkeys.insert(unit, fresh, actor.id, name);
        await audit.append(unit, { ...entry, facts: passkeyFacts(fresh) });
      });
    } catch (error) {
      throw isFault(error, 'duplicate') ? new Fault('conflict', 'passkey-taken', 'this passkey is registered already') : error;
    }
  }

  /** Rejects with `passkey-unknown` or `passkey-last`: without one nobody comes in any more. */
  async removePasskey(actor: AdministratorActor, id: string): Promise<void> {
    this.requireFresh(actor);
    const { passkeys, storage, audit } = this.parts;
    const entry = { action: 'passkey.remove', outcome: 'done', actor: by(actor), subject: actor.id, request: actor.request.id } as const;
    await storage.write(async (unit) => {
      const own = await passkeys.of(actor.id, unit);
      if (!own.some((passkey) => passkey.id === id)) throw new Fault('not-found', 'passkey-unknown', 'you have no such passkey');
      if (own.length === 1) throw new Fault('conflict', 'passkey-last', 'this is your only passkey: add another first');
      await passkeys.remove(unit, id);
      await audit.append(unit, { ...entry, facts: { passkey: passkeyDigest(id) } });
    });
  }
}
