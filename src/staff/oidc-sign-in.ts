import { randomBytes } from 'node:crypto';
import type { Budgets, Request } from '../access/index.js';
import { mailAddress } from '../directory/index.js';
import { base64url, Fault, fromBase64, sha256 } from '../foundation/index.js';
import type { Binding, IdentityProvider } from './identity-provider.js';
import { refused } from './membership.js';
import type { StaffSessions } from './staff-session.js';

/** Seconds for the whole way to the provider and back. */
const LIFE = 600;
const COOKIE = '__Host-ekms-staff-oidc';
/** Lax, because the provider sends the browser back from another site (RFC 6265bis §5.2). */
const FLAGS = 'Path=/; Secure; HttpOnly; SameSite=Lax';

/**
 * Sign-in at the organisation's provider. What the way back must fit (state, nonce, PKCE verifier) comes from one secret in the browser's cookie,
 * so a code that was sent to another browser is worth nothing, and nothing waits in the database.
 */
export class OidcSignIn {
  constructor(
    private readonly provider: IdentityProvider,
    private readonly sessions: StaffSessions,
    private readonly budgets: Budgets,
    private readonly settings: { redirect: () => string; requireVerified: boolean },
  ) {}

  async begin(request: Request): Promise<{ location: string; cookie: string }> {
    await this.budgets.take(this.budgets.ofSignIn(request));
    const secret = randomBytes(32);
    const location = await this.provider.begin(this.settings.redirect(), bindingOf(secret));
    return { location, cookie: `${COOKIE}=${base64url(secret)}; ${FLAGS}; Max-Age=${LIFE}` };
  }

  /** @param query of the address that the browser came back to, with its `?`. Resolves with the session's `Set-Cookie` value. */
  async finish(query: string, cookies: string | undefined, request: Request): Promise<string> {
    await this.budgets.take(this.budgets.ofSignIn(request));
    return this.sessions.begin('oidc', request, async () => {
      const secret = secretOf(cookies);
      if (!secret) throw new Fault('forbidden', 'oidc-refused', 'this sign-in was not begun in this browser, or too long ago; begin again');
      const identity = await this.provider.finish(new URL(query, this.settings.redirect()), bindingOf(secret));
      const address = identity.email === undefined ? undefined : mailAddress(identity.email);
      if (!address || (this.settings.requireVerified && !identity.emailVerified)) throw refused();
      return { address, personal: { subject: identity.subject } };
    });
  }

  readonly endingCookie = `${COOKIE}=; ${FLAGS}; Max-Age=0`;
}

function bindingOf(secret: Uint8Array): Binding {
  const of = (what: string) => base64url(sha256(`ekms oidc ${what}\n`, secret));
  return { state: of('state'), nonce: of('nonce'), verifier: of('verifier') };
}

function secretOf(cookies: string | undefined): Buffer | undefined {
  const values = (cookies ?? '').split(';').flatMap((pair) => {
    const [name, value] = pair.trim().split('=', 2);
    return name === COOKIE && value ? [value] : [];
  });
  const secret = values.length === 1 ? fromBase64(values[0] ?? '', 'base64url') : undefined;
  return secret?.length === 32 ? secret : undefined;
}
