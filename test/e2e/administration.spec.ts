import 'reflect-metadata';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type BrowserPerson, raw, TestBrowser } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';

jest.setTimeout(60_000);

/** Administrators at real pages in a real browser, with authenticators that the browser emulates. */
describe('administration, in Chromium', () => {
  let house: HouseInProcess;
  let browser: TestBrowser;
  let anna: BrowserPerson;
  let base: string;
  const own = () => ({ origin: base, 'sec-fetch-site': 'same-origin' });
  const ask = (path: string, how: Parameters<typeof raw>[2] = {}) => raw(`${base}/v1/admin/${path}`, house.root, how);
  const invite = async (args: object = {}) => ((await house.act('admin.invite', args)) as { link: string }).link;
  /** Follows a link and makes a passkey there; resolves when signed in. */
  const register = async (person: BrowserPerson, link: string, who?: { name: string; address: string }) => {
    await person.page.goto(link);
    if (who) {
      await person.page.fill('#name', who.name);
      await person.page.fill('#address', who.address);
    }
    await person.page.click('button');
    await person.page.locator('#inside').waitFor();
  };

  beforeAll(async () => {
    house = await HouseInProcess.open();
    base = house.house.origins.of('administration');
    browser = await TestBrowser.open(house.root);
    anna = await browser.person();
  });
  afterAll(async () => {
    await browser?.close();
    await house?.close();
  });

  test('an invited person makes a passkey, is signed in, and signs in again with it; the page asks for a second', async () => {
    const key = await anna.authenticator();
    const link = await invite();
    await register(anna, link, { name: 'Anna Officer', address: 'Anna@corp.example' });
    expect(await anna.page.textContent('#who')).toBe('Anna Officer, security-officer');
    expect(await anna.page.isVisible('#bootstrap')).toBe(true);
    expect(await anna.page.isVisible('#one-passkey')).toBe(true);
    await anna.page.click('#sign-out');
    await anna.page.locator('#outside').waitFor();
    await anna.page.click('#sign-in');
    await anna.page.locator('#inside').waitFor();
    await anna.authenticator({ transport: 'internal' });
    await anna.touches(key, false);
    await anna.page.click('#add-passkey button');
    await anna.page.locator('#passkeys tr:nth-child(2)').waitFor();
    await anna.touches(key, true);
    expect(await anna.page.isVisible('#one-passkey')).toBe(false);
    const actions = (await house.log()).map(({ action, outcome }) => `${action} ${outcome}`);
    expect(actions).toEqual(
      expect.arrayContaining([
        'administrator.invite done',
        'administrator.register done',
        'session.begin done',
        'session.end done',
        'passkey.add done',
      ]),
    );
    expect(house.defects).toEqual([]);
  });

  test('a link works once, and for minutes', async () => {
    const boris = await browser.person();
    await boris.authenticator();
    const link = await invite({ name: 'Boris', address: 'boris@corp.example', role: 'auditor' });
    await register(boris, link);
    await boris.context.clearCookies();
    await boris.page.goto('about:blank');
    await boris.page.goto(link);
    await boris.page.click('button');
    expect(await boris.alert()).toContain('invitation-unknown');
    const late = await invite();
    house.pass(16 * 60_000);
    await boris.page.goto('about:blank');
    await boris.page.goto(late);
    await boris.page.click('button');
    expect(await boris.alert()).toContain('invitation-unknown');
    await boris.context.close();
  });

  test('an authenticator that does not verify its user registers nothing', async () => {
    const eve = await browser.person();
    await eve.authenticator({ verifies: false });
    await eve.page.goto(await invite({ name: 'Eve', address: 'eve@corp.example' }));
    await eve.page.click('button');
    expect(await eve.alert()).toContain('The passkey was not used');
    await eve.context.close();
  });

  test('an officer reads what another asks for, and signs it with a passkey', async () => {
    const boris = await TestAdministrator.register(house, 'bo', 'security-officer');
    const vera = await TestAdministrator.register(house, 'vera', undefined);
    const asked = await boris.act('admin.role', { id: vera.id, role: 'recovery-agent' });
    expect(asked.status).toBe(202);
    await anna.context.clearCookies();
    await anna.page.goto(base);
    await anna.page.click('#sign-in');
    const card = anna.page.locator(`[data-request="${(asked.json as { id: string }).id}"]`);
    expect(await card.locator('pre').textContent()).toContain('recovery-agent');
    await card.locator('.approve').click();
    await card.locator('.state', { hasText: 'done' }).waitFor();
    expect(await house.house.administrators.find(vera.id)).toMatchObject({ role: 'recovery-agent' });
  });

  describe('refused', () => {
    /** Signs Anna in anew and gives what her browser sent. */
    const signIn = async () => {
      await anna.context.clearCookies();
      await anna.page.goto(base);
      const sent = anna.page.waitForRequest((request) => request.url().endsWith('/v1/admin/sign-in'));
      await anna.page.click('#sign-in');
      await anna.page.locator('#inside').waitFor();
      return { answer: (await sent).postDataJSON() as object, cookie: await anna.cookies(base) };
    };

    test('an assertion that is sent a second time', async () => {
      const { answer } = await signIn();
      expect(await ask('sign-in', { method: 'POST', body: answer, headers: own() })).toMatchObject({
        status: 401,
        code: 'challenge-unknown',
        setCookie: [],
      });
      expect((await house.log(1))[0]).toMatchObject({ action: 'administrator.sign-in', outcome: 'refused', reason: 'challenge-unknown' });
    });

    test('an assertion for another challenge, an altered one, and one of a passkey that is unknown', async () => {
      const { answer } = await signIn();
      const { response } = answer as { response: { id: string; response: { clientDataJSON: string } } };
      const begun = (await ask('sign-in/options', { method: 'POST', headers: own() })).json as { challenge: string };
      const told = JSON.parse(Buffer.from(response.response.clientDataJSON, 'base64url').toString()) as object;
      const clientDataJSON = Buffer.from(JSON.stringify({ ...told, challenge: begun.challenge })).toString('base64url');
      const altered = { response: { ...response, response: { ...response.response, clientDataJSON } } };
      expect(await ask('sign-in', { method: 'POST', body: altered, headers: own() })).toMatchObject({
        status: 401,
        code: 'passkey-refused',
      });
      const again = (await ask('sign-in/options', { method: 'POST', headers: own() })).json as { challenge: string };
      const fresh = Buffer.from(JSON.stringify({ ...told, challenge: again.challenge })).toString('base64url');
      const unknown = { response: { ...response, id: 'AAAA', rawId: 'AAAA', response: { ...response.response, clientDataJSON: fresh } } };
      expect(await ask('sign-in', { method: 'POST', body: unknown, headers: own() })).toMatchObject({
        status: 401,
        code: 'passkey-refused',
      });
    });

    test('what another site, another port of this host, or no page at all sends with the right cookie', async () => {
      const { cookie } = await signIn();
      const foreign: Record<string, string>[] = [
        { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
        { origin: house.house.origins.of('staff'), 'sec-fetch-site': 'same-site' },
        { origin: 'null', 'sec-fetch-site': 'cross-site' },
        {},
      ];
      for (const headers of foreign)
        expect(await ask('sign-out', { method: 'POST', headers: { ...headers, cookie } })).toMatchObject({
          status: 403,
          code: 'cross-site',
        });
      expect(await ask('me', { headers: { cookie, 'sec-fetch-site': 'cross-site' } })).toMatchObject({ status: 403, code: 'cross-site' });
      expect(await ask('me', { headers: { cookie } })).toMatchObject({ status: 200 });
    });

    test('a page of another origin, in the browser itself: its cookie stays at home', async () => {
      await signIn();
      const other = house.house.origins.of('staff').replace('localhost', '127.0.0.1');
      const page = await anna.context.newPage();
      await page.goto(`${other}/api/openapi.json`);
      const answer = await page.evaluate(
        (url) =>
          fetch(url, { method: 'POST', credentials: 'include', mode: 'no-cors' }).then(
            (response) => response.type,
            (error: Error) => error.message,
          ),
        `${base}/v1/admin/sign-out`,
      );
      // Whatever the browser let through, nothing was done: Anna is still signed in.
      expect(['opaque', 'Failed to fetch']).toContain(answer);
      await page.close();
      expect((await ask('me', { headers: { cookie: await anna.cookies(base) } })).status).toBe(200);
    });

    test('a session that somebody planted before the sign-in (fixation): it opens nothing before nor after', async () => {
      const planted = Buffer.alloc(32, 5).toString('base64url');
      const { hostname } = new URL(base);
      await anna.context.clearCookies();
      await anna.context.addCookies([
        {
          name: '__Host-ekms-administration',
          value: planted,
          domain: hostname,
          path: '/',
          secure: true,
          httpOnly: true,
          sameSite: 'Strict',
        },
      ]);
      await anna.page.goto(base);
      await anna.page.click('#sign-in');
      await anna.page.locator('#inside').waitFor();
      const cookie = await anna.cookies(base);
      expect(cookie).not.toContain(planted);
      const headers = { cookie: `__Host-ekms-administration=${planted}` };
      expect(await ask('me', { headers })).toMatchObject({ status: 401, code: 'session-ended' });
    });

    test('a sign-in over a living session: the old cookie is dead', async () => {
      const { cookie } = await signIn();
      // The page as it stood in another tab, before the sign-in.
      await anna.page.evaluate("document.getElementById('outside').hidden = false");
      await Promise.all([
        anna.page.waitForResponse((response) => response.url().endsWith('/v1/admin/sign-in')),
        anna.page.click('#sign-in'),
      ]);
      expect(await ask('me', { headers: { cookie } })).toMatchObject({ status: 401, code: 'session-ended' });
    });

    test('a cookie from another address; its session is over for its owner as well', async () => {
      const { cookie } = await signIn();
      expect(await ask('me', { headers: { cookie } })).toMatchObject({ status: 200 });
      expect(await ask('me', { headers: { cookie }, from: '127.0.0.9' })).toMatchObject({ status: 401, code: 'session-elsewhere' });
      expect(await ask('me', { headers: { cookie } })).toMatchObject({ status: 401, code: 'session-ended' });
    });

    test('a cookie at another listener: there is no such route, and no such session', async () => {
      const { cookie } = await signIn();
      const staff = house.house.origins.of('staff');
      expect(await raw(`${staff}/v1/admin/me`, house.root, { headers: { cookie } })).toMatchObject({ status: 404, code: 'route-unknown' });
    });

    test('a passkey whose counter went back: it was copied', async () => {
      await signIn();
      await house.db.write((unit) => unit.run('UPDATE passkeys SET counter = 1000000'));
      await anna.context.clearCookies();
      await anna.page.goto(base);
      await anna.page.click('#sign-in');
      expect(await anna.alert()).toContain('passkey-cloned');
      await house.db.write((unit) => unit.run('UPDATE passkeys SET counter = 1'));
    });

    test('an administrator or passkey that somebody wrote into the database', async () => {
      const { cookie } = await signIn();
      await house.db.write((unit) => unit.run("UPDATE administrators SET role = 'auditor' WHERE address = 'anna@corp.example'"));
      expect(await ask('me', { headers: { cookie } })).toMatchObject({ status: 401, code: 'session-ended' });
      await house.db.write((unit) => unit.run("UPDATE administrators SET role = 'security-officer' WHERE address = 'anna@corp.example'"));
      expect(await ask('me', { headers: { cookie } })).toMatchObject({ status: 200 });
      const name = "UPDATE passkeys SET name = name || '!'";
      await house.db.write((unit) => unit.run(name));
      await anna.context.clearCookies();
      await anna.page.goto(base);
      await anna.page.click('#sign-in');
      expect(await anna.alert()).toContain('passkey-refused');
    });
  });
});
