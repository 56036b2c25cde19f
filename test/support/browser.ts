import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, type BrowserContext, type CDPSession, chromium, type Page } from 'playwright-core';

/** Debian's Chromium, headless, that trusts one root as an organisation's computers would. */
export class TestBrowser {
  private constructor(
    private readonly browser: Browser,
    private readonly home: string,
  ) {}

  /** @param roots PEM */
  static async open(...roots: string[]): Promise<TestBrowser> {
    const home = mkdtempSync(join(tmpdir(), 'ekms-browser-'));
    const store = join(home, '.pki/nssdb');
    mkdirSync(store, { recursive: true });
    const certutil = (...words: string[]) => execFileSync('certutil', ['-d', `sql:${store}`, ...words], { stdio: 'pipe' });
    certutil('-N', '--empty-password');
    for (const [n, root] of roots.entries()) {
      writeFileSync(join(home, `${n}.pem`), root);
      certutil('-A', '-t', 'C,,', '-n', `root ${n}`, '-i', join(home, `${n}.pem`));
    }
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      env: { ...process.env, HOME: home },
      args: [
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
      ],
    });
    return new TestBrowser(browser, home);
  }

  /** Somebody at a computer of their own. */
  async person(): Promise<BrowserPerson> {
    const context = await this.browser.newContext();
    context.setDefaultTimeout(20_000);
    const page = await context.newPage();
    const devtools = await context.newCDPSession(page);
    await devtools.send('WebAuthn.enable');
    return new BrowserPerson(context, page, devtools);
  }

  async close(): Promise<void> {
    await this.browser.close();
    rmSync(this.home, { recursive: true, force: true });
  }
}

export class BrowserPerson {
  constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    readonly devtools: CDPSession,
  ) {}

  /** Puts an authenticator in (Chromium's virtual one). Resolves with its id. */
  async authenticator({ verifies = true, transport = 'usb' as 'usb' | 'internal' } = {}): Promise<string> {
    const { authenticatorId } = await this.devtools.send('WebAuthn.addVirtualAuthenticator', {
      options: {
        protocol: 'ctap2',
        transport,
        hasResidentKey: true,
        hasUserVerification: true,
        isUserVerified: verifies,
        automaticPresenceSimulation: true,
      },
    });
    return authenticatorId;
  }

  /** Whether the person touches this authenticator when it asks. */
  async touches(authenticatorId: string, enabled: boolean): Promise<void> {
    await this.devtools.send('WebAuthn.setAutomaticPresenceSimulation', { authenticatorId, enabled });
  }

  /** The cookie header that this browser would send there. */
  async cookies(url: string): Promise<string> {
    return (await this.context.cookies(url)).map(({ name, value }) => `${name}=${value}`).join('; ');
  }

  /** What the alert says, once it says something. */
  async alert(): Promise<string> {
    const said = this.page.locator('#message');
    await said.filter({ hasText: /./ }).waitFor();
    return (await said.textContent()) ?? '';
  }
}

export interface RawAnswer {
  status: number;
  code: string | undefined;
  json: unknown;
  setCookie: string[];
  type: string | undefined;
  body: Buffer;
}

/** A request that no browser would send so: any header, from any address of this machine. */
export function raw(
  url: string,
  root: string,
  {
    method = 'GET',
    body,
    headers = {},
    from = '127.0.0.1',
  }: { method?: string; body?: unknown; headers?: Record<string, string>; from?: string } = {},
): Promise<RawAnswer> {
  const bytes = body === undefined ? undefined : JSON.stringify(body);
  const type: Record<string, string> = bytes === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const asked = request(
      url,
      { method, ca: [root], agent: false, family: 4, localAddress: from, headers: { ...type, ...headers } },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (piece: string) => {
          text += piece;
        });
        response.on('end', () => {
          let json: unknown;
          try {
            json = JSON.parse(text);
          } catch {}
          const code = typeof json === 'object' && json !== null && 'code' in json ? String(json.code) : undefined;
          const { 'content-type': type, 'set-cookie': setCookie = [] } = response.headers;
          resolve({ status: response.statusCode ?? 0, code, json, setCookie, type, body: Buffer.from(text) });
        });
      },
    );
    asked.on('error', reject);
    asked.end(bytes);
  });
}
