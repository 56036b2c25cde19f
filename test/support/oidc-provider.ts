import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Provider, { type JWK } from 'oidc-provider';
import { freePorts } from '../../src/demo/programs.js';

/** The organisation's own OpenID Connect provider on loopback: node-oidc-provider, with its development pages for login and consent. */
export class TestProvider {
  readonly folder = mkdtempSync(join(tmpdir(), 'ekms-oidc-'));
  /** Claims of an account by login name; without one, a verified address of that name. */
  readonly accounts = new Map<string, { email?: string; email_verified?: boolean }>();
  issuer = '';
  #server: Server | undefined;

  /** @param redirect the one redirect URI that it knows */
  static async open(redirect: string, options: { claimsInIdToken?: boolean } = {}): Promise<TestProvider> {
    const provider = new TestProvider();
    await provider.#start(redirect, options.claimsInIdToken ?? false);
    return provider;
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  /** `staff.oidc` of ekms.yaml. */
  settings(more: object = {}): object {
    return { issuer: this.issuer, clientId: 'ekms', clientSecretFile: this.file('secret'), caFile: this.file('cert.pem'), ...more };
  }

  async #start(redirect: string, claimsInIdToken: boolean): Promise<void> {
    const [port = 0] = await freePorts(1);
    this.issuer = `https://localhost:${port}`;
    writeFileSync(this.file('secret'), 'a client secret of the test\n');
    const made = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      this.file('key.pem'),
      '-out',
      this.file('cert.pem'),
    ];
    const names = 'subjectAltName=DNS:localhost';
    execFileSync('openssl', ['req', '-x509', ...made, '-days', '30', '-subj', '/CN=localhost', '-addext', names], { stdio: 'pipe' });
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const provider = new Provider(this.issuer, {
      clients: [
        {
          client_id: 'ekms',
          client_secret: 'a client secret of the test',
          redirect_uris: [redirect],
          response_types: ['code'],
          grant_types: ['authorization_code'],
        },
      ],
      jwks: { keys: [{ ...(privateKey.export({ format: 'jwk' }) as JWK), use: 'sig', alg: 'RS256', kid: 'one' }] },
      cookies: { keys: ['a cookie key of the test'] },
      claims: { openid: ['sub'], email: ['email', 'email_verified'] },
      conformIdTokenClaims: !claimsInIdToken,
      pkce: { required: () => true },
      ttl: { Session: 600, Interaction: 600, Grant: 600, IdToken: 600, AccessToken: 600 },
      findAccount: (_context, id) => ({
        accountId: id,
        claims: async () => ({ sub: id, ...(this.accounts.get(id) ?? { email: `${id}@corp.example`, email_verified: true }) }),
      }),
    });
    const server = createServer(
      { key: readFileSync(this.file('key.pem')), cert: readFileSync(this.file('cert.pem')) },
      provider.callback(),
    );
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  }

  async close(): Promise<void> {
    const server = this.#server;
    server?.closeAllConnections();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
