import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import {
  allowInsecureRequests,
  authorizationCodeGrant,
  buildAuthorizationUrl,
  ClientSecretBasic,
  type Configuration,
  type CustomFetch,
  calculatePKCECodeChallenge,
  customFetch,
  discovery,
  fetchUserInfo,
} from 'openid-client';
import { Fault } from '../foundation/index.js';

export interface ProviderSettings {
  /** The issuer identifier; its endpoints must be at the same origin. */
  issuer: string;
  clientId: string;
  clientSecret: () => string;
  /** PEM of the only authorities that its certificate may end in. */
  ca?: () => string;
}

/** What one browser's sign-in is bound to. */
export interface Binding {
  state: string;
  nonce: string;
  /** PKCE (RFC 7636). */
  verifier: string;
}

/** Claims of a verified ID token. */
export interface Identity {
  subject: string;
  email: string | undefined;
  emailVerified: boolean;
}

/** The organisation's OpenID Connect provider. Both verbs reject with `oidc-unavailable`; `finish` also with `oidc-refused`. */
export abstract class IdentityProvider {
  /** Where the browser is sent. */
  abstract begin(redirect: string, binding: Binding): Promise<string>;
  /** @param callback the whole address that the browser came back to */
  abstract finish(callback: URL, binding: Binding): Promise<Identity>;
}

/** Milliseconds for one answer of the provider, and bytes of it. */
const ANSWER = 10_000;
const MOST = 256 * 1024;
/** Milliseconds after which the provider's metadata and keys are asked for anew. */
const KNOWN = 3_600_000;

/** OpenID Connect Core 1.0, authorization code flow with PKCE; openid-client verifies issuer, audience, signature, times, nonce and state. */
export class OpenIdProvider extends IdentityProvider {
  #known: { configuration: Promise<Configuration>; until: number } | undefined;

  constructor(private readonly settings: ProviderSettings) {
    super();
  }

  override async begin(redirect: string, binding: Binding): Promise<string> {
    const configuration = await this.#configuration();
    return buildAuthorizationUrl(configuration, {
      redirect_uri: redirect,
      scope: 'openid email',
      state: binding.state,
      nonce: binding.nonce,
      code_challenge: await calculatePKCECodeChallenge(binding.verifier),
      code_challenge_method: 'S256',
    }).href;
  }

  override async finish(callback: URL, binding: Binding): Promise<Identity> {
    const configuration = await this.#configuration();
    try {
      const tokens = await authorizationCodeGrant(configuration, callback, {
        expectedState: binding.state,
        expectedNonce: binding.nonce,
        pkceCodeVerifier: binding.verifier,
        idTokenExpected: true,
      });
      const claims = tokens.claims();
      if (!claims) throw oidcRefused();
      // Where the ID token says nothing of e-mail, the provider's userinfo endpoint does (OpenID Connect Core §5.4).
      const said =
        claims['email'] === undefined && configuration.serverMetadata().userinfo_endpoint
          ? await fetchUserInfo(configuration, tokens.access_token, claims.sub)
          : claims;
      const { email, email_verified: verified } = said as { email?: unknown; email_verified?: unknown };
      return { subject: claims.sub, email: typeof email === 'string' ? email : undefined, emailVerified: verified === true };
    } catch (error) {
      if (error instanceof Fault) throw error;
      // Of the library's words only that it refused is passed on: its messages hold tokens' parts.
      throw isOutage(error) ? unavailable() : oidcRefused();
    }
  }

  async #configuration(): Promise<Configuration> {
    const now = Date.now();
    if (!this.#known || this.#known.until < now) this.#known = { configuration: this.#discover(), until: now + KNOWN };
    try {
      return await this.#known.configuration;
    } catch (error) {
      this.#known = undefined;
      throw error instanceof Fault ? error : unavailable();
    }
  }

  #discover(): Promise<Configuration> {
    const { issuer, clientId, clientSecret } = this.settings;
    const insecure = new URL(issuer).protocol === 'http:'; // ekms.yaml allows that on loopback alone
    return discovery(new URL(issuer), clientId, undefined, ClientSecretBasic(clientSecret()), {
      [customFetch]: this.#fetch,
      ...(insecure ? { execute: [allowInsecureRequests] } : {}),
    });
  }

  /** Only the issuer's own origin is ever asked: an appliance that reaches nothing else is not led elsewhere by a document. */
  readonly #fetch: CustomFetch = (url, { method, headers, body }) => {
    const { issuer, ca } = this.settings;
    if (new URL(url).origin !== new URL(issuer).origin)
      return Promise.reject(new Outage('the provider’s endpoints are not at its issuer’s origin'));
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const asking = send(url, { method, headers, signal: AbortSignal.timeout(ANSWER), ...(ca ? { ca: ca() } : {}) }, (answer) => {
        collect(answer).then((bytes) => {
          const fields = Object.entries(answer.headers).flatMap(([name, value]) =>
            value === undefined ? [] : [[name, String(value)] as [string, string]],
          );
          const status = answer.statusCode ?? 502;
          resolve(new Response(status === 204 || status === 304 ? null : bytes, { status, headers: fields }));
        }, reject);
      });
      asking.on('error', (error) => reject(new Outage(error.message)));
      asking.end(body === null || body === undefined ? undefined : String(body));
    });
  };
}

class Outage extends Error {}

async function collect(answer: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of answer as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > MOST) throw new Outage('the provider’s answer is too large');
    pieces.push(piece);
  }
  return new Uint8Array(Buffer.concat(pieces));
}

function isOutage(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof Outage) return true;
  return false;
}

const unavailable = (): Fault => new Fault('unavailable', 'oidc-unavailable', 'your organisation’s sign-in service does not answer', 30);
const oidcRefused = (): Fault =>
  new Fault('forbidden', 'oidc-refused', 'your organisation’s sign-in service did not vouch for you; begin again');
