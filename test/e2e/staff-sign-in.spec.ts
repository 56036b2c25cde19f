import 'reflect-metadata';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { freePorts } from '../../src/demo/programs.js';
import { type BrowserPerson, type RawAnswer, raw, TestBrowser } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestProvider } from '../support/oidc-provider.js';
import { PEOPLE, Slapd } from '../support/slapd.js';
import { refusal } from '../support/wire.js';
import { begin, giveAnswer, mailedHalf } from '../support/wire-device.js';

jest.setTimeout(120_000);
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

/** Staff at the real page in a real browser; the organisation has OpenLDAP and an OpenID Connect provider. */
describe('staff sign-in', () => {
  let house: HouseInProcess;
  let browser: TestBrowser;
  let slapd: Slapd;
  let provider: TestProvider;
  let base: string;

  beforeAll(async () => {
    slapd = await Slapd.open();
    for (const name of ['anna', 'bob', 'carla', 'dora']) slapd.person(name, `${name}@corp.example`);
    const [staff = 0] = await freePorts(1);
    base = `https://localhost:${staff}`;
    provider = await TestProvider.open(`${base}/v1/staff/oidc/callback`);
    const listen = {
      client: '127.0.0.1:0',
      administration: '127.0.0.1:0',
      staff: `127.0.0.1:${staff}`,
      public: '127.0.0.1:0',
      operation: '127.0.0.1:0',
    };
    house = await HouseInProcess.open({
      settings: {
        listen,
        keys: { bits: 2048, pool: { target: 2 } },
        directory: slapd.settings(),
        enrolment: { second: 'directory' },
        staff: { signIn: ['code', 'oidc', 'ldap'], oidc: provider.settings() },
      },
    });
    await house.act('directory.sync', {});
    browser = await TestBrowser.open(house.root, readFileSync(provider.file('cert.pem'), 'utf8'));
  });
  afterAll(async () => {
    await browser?.close();
    await house?.close();
    await provider?.close();
    await slapd?.close();
  });

  const own = () => ({ origin: base, 'sec-fetch-site': 'same-origin' });
  const ask = (path: string, how: Parameters<typeof raw>[2] = {}) =>
    raw(`${base}/v1/staff/${path}`, house.root, { ...how, headers: { ...own(), ...how.headers } });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) => ask(path, { method: 'POST', body, headers });
  const askCode = async (address: string) => (await post('codes', { address })).json as { id: string; expiresAt: string };
  const mailsTo = (address: string) =>
    house.mail.accepted.filter(({ to, bytes }) => to.toLowerCase() === address && /^Subject: Your code/m.test(bytes.toString('latin1')));
  /** Asks for a code and waits for its mail. */
  const codeFor = async (address: string, asking: () => Promise<unknown> = () => askCode(address)) => {
    const before = mailsTo(address).length;
    const asked = (await asking()) as { id: string };
    for (const until = Date.now() + 10_000; mailsTo(address).length === before && Date.now() < until; ) await pause();
    const mail = mailsTo(address).at(-1)?.bytes.toString('latin1') ?? '';
    return { id: asked?.id, code: /^ {2}([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\r?$/m.exec(mail)?.[1] ?? '' };
  };
  const cookieOf = ({ setCookie }: RawAnswer) => setCookie[0]?.split(';')[0] ?? '';
  const said = ({ status, code }: RawAnswer) => `${status} ${code ?? ''}`.trim();
  const signedIn = async (person: BrowserPerson) => {
    await person.page.locator('#inside').waitFor();
    return person.page.textContent('#who');
  };
  /** Through the provider's own pages, as a person does. */
  const byProvider = async (person: BrowserPerson, login: string) => {
    await person.page.goto(base);
    await person.page.click('#by-oidc a');
    await person.page.fill('input[name=login]', login);
    await person.page.fill('input[name=password]', 'whatever the test provider takes');
    await person.page.click('button[type=submit]');
    await person.page.click('button[type=submit]'); // consent
  };

  /** Stops this browser on its way back from the provider; resolves with where it was going, and with which cookies. */
  const onItsWayBack = (person: BrowserPerson, then: 'stop' | 'go on') =>
    new Promise<{ url: string; cookie: string }>((resolve, reject) => {
      person.devtools.on('Fetch.requestPaused', async ({ requestId, request: { url } }) => {
        try {
          resolve({ url, cookie: await person.cookies(base) });
          if (then === 'stop') await person.devtools.send('Fetch.failRequest', { requestId, errorReason: 'Aborted' });
          else await person.devtools.send('Fetch.continueRequest', { requestId });
        } catch (error) {
          reject(error);
        }
      });
      person.devtools.send('Fetch.enable', { patterns: [{ urlPattern: '*/v1/staff/oidc/callback*' }] }).catch(reject);
    });

  test('by a mailed code, typed as people type it; signed out, the cookie opens nothing', async () => {
    const anna = await browser.person();
    await anna.page.goto(base);
    await anna.page.fill('#code-address', 'Anna@corp.example');
    const { code } = await codeFor('anna@corp.example', () => anna.page.click('#by-code button'));
    await anna.page.fill('#code-text', ` ${code.toLowerCase().replaceAll('-', ' ')}`);
    await anna.page.click('#code button');
    expect(await signedIn(anna)).toBe('anna@corp.example');
    const cookie = await anna.cookies(base);
    expect((await ask('me', { headers: { cookie } })).json).toMatchObject({ address: 'anna@corp.example', method: 'code' });
    await anna.page.click('#sign-out');
    await anna.page.locator('#outside').waitFor();
    expect(said(await ask('me', { headers: { cookie } }))).toBe('401 session-ended');
    await anna.context.close();
  });

  test('at the organisation’s provider, and back at the page', async () => {
    const bob = await browser.person();
    await byProvider(bob, 'bob');
    expect(await signedIn(bob)).toBe('bob@corp.example');
    expect(new URL(bob.page.url()).href).toBe(`${base}/`);
    expect((await ask('me', { headers: { cookie: await bob.cookies(base) } })).json).toMatchObject({ method: 'oidc' });
    const [entry] = (await house.log()).filter(({ action }) => action === 'session.begin').slice(-1);
    expect(entry).toMatchObject({ facts: { method: 'oidc' }, personal: { address: 'bob@corp.example', subject: 'bob' } });
    await bob.context.close();
  });

  test('by the password of the directory', async () => {
    const carla = await browser.person();
    await carla.page.goto(base);
    await carla.page.fill('#ldap-address', 'carla@corp.example');
    await carla.page.fill('#ldap-password', 'carla-secret');
    await carla.page.click('#by-ldap button');
    expect(await signedIn(carla)).toBe('carla@corp.example');
    await carla.context.close();
  });

  test('the page works without a mouse, names its fields, and runs no script but its own', async () => {
    const anna = await browser.person();
    const problems: string[] = [];
    anna.page.on('console', (message) => message.type() === 'error' && !/401/.test(message.text()) && problems.push(message.text()));
    anna.page.on('pageerror', (error) => problems.push(error.message));
    await anna.page.goto(base);
    for (const field of ['E-mail address', 'Password of your organisation’s account'])
      expect(await anna.page.getByLabel(field).count()).toBeGreaterThan(0);
    await anna.page.focus('#ldap-address');
    await anna.page.keyboard.type('anna@corp.example');
    await anna.page.keyboard.press('Tab');
    await anna.page.keyboard.type('wrong');
    await anna.page.keyboard.press('Enter');
    expect(await anna.alert()).toContain('sign-in-refused');
    expect(await anna.page.inputValue('#ldap-password')).toBe('');
    expect(problems.filter((text) => !/403/.test(text))).toEqual([]);
    await anna.context.close();
  });

  describe('a code', () => {
    test('is good once, and only in the browser that asked for it', async () => {
      const mine = await codeFor('dora@corp.example');
      const theirs = await askCode('dora@corp.example');
      const { code } = mine;
      // The second request shares the first one's mail: nobody's mailbox is filled by asking.
      expect(house.mail.accepted.filter(({ to }) => to === 'dora@corp.example')).toHaveLength(1);
      expect(said(await post('codes/3f1d9f26-6d4e-4d0e-9e41-5a3cf9a3d2c1', { code }))).toBe('403 sign-in-refused');
      expect(said(await post(`codes/${mine.id}`, { code: code.replace(/.$/, (last) => (last === '0' ? '1' : '0')) }))).toBe(
        '403 sign-in-refused',
      );
      expect(said(await post(`codes/${mine.id}`, { code }))).toBe('204');
      expect(said(await post(`codes/${mine.id}`, { code }))).toBe('403 sign-in-refused');
      expect(said(await post(`codes/${theirs.id}`, { code }))).toBe('403 sign-in-refused');
    });

    test('given wrongly five times by a stranger shuts nobody out but the stranger', async () => {
      house.pass(11 * 60_000);
      const stranger = await codeFor('dora@corp.example');
      const dora = await askCode('dora@corp.example');
      for (let n = 0; n < 5; n++) expect(said(await post(`codes/${stranger.id}`, { code: 'AAAA-AAAA-AAAA' }))).toBe('403 sign-in-refused');
      const { code } = stranger;
      expect(said(await post(`codes/${stranger.id}`, { code }))).toBe('403 sign-in-refused');
      expect(said(await post(`codes/${dora.id}`, { code }))).toBe('204');
    });

    test('is over after its minutes', async () => {
      house.pass(11 * 60_000);
      const { id, code } = await codeFor('dora@corp.example');
      house.pass(10 * 60_000);
      expect(said(await post(`codes/${id}`, { code }))).toBe('403 sign-in-refused');
    });

    test('is asked for alike by whoever there is and whoever there is not; nobody else gets a mail', async () => {
      house.pass(11 * 60_000);
      const before = house.mail.accepted.length;
      const [last] = await house.log(1);
      const answers = await Promise.all(
        ['anna@corp.example', 'nobody@corp.example', 'anna@elsewhere.example'].map((address) => post('codes', { address })),
      );
      expect(answers.map(({ status, json }) => [status, Object.keys(json as object)])).toEqual(
        answers.map(() => [202, ['id', 'expiresAt']]),
      );
      const told = async () =>
        (await house.log(10)).filter(({ action, index }) => action === 'staff.code' && Number(index) > Number(last?.index));
      for (const until = Date.now() + 5_000; Date.now() < until && (await told()).length < 3; ) await pause();
      expect((await told()).map(({ outcome }) => outcome).toSorted()).toEqual(['done', 'refused', 'refused']);
      for (const until = Date.now() + 5_000; Date.now() < until && house.mail.accepted.length === before; ) await pause();
      expect(house.mail.accepted.slice(before).map(({ to }) => to)).toEqual(['anna@corp.example']);
    });

    test('cannot be made by who writes the database', async () => {
      house.pass(11 * 60_000);
      const mallory = await codeFor('bob@corp.example');
      const { code } = mallory;
      // Bob's own code, put to anna's address.
      await house.db.write((unit) =>
        unit.run("UPDATE staff_codes SET address = 'anna@corp.example' WHERE id = (SELECT code FROM staff_sign_ins WHERE id = ?)", [
          mallory.id,
        ]),
      );
      expect(said(await post(`codes/${mallory.id}`, { code }))).toBe('403 sign-in-refused');
    });
  });

  describe('a password', () => {
    test.each([
      ['wrong', 'anna@corp.example', 'bob-secret'],
      ['empty', 'anna@corp.example', ''],
      ['of nobody', 'nobody@corp.example', 'anna-secret'],
      ['with a pattern for an address', '*@corp.example', 'anna-secret'],
    ])('that is %s: one and the same refusal, and no secret in the log', async (_, address, password) => {
      const answer = await post('passwords', { address, password });
      expect(said(answer)).toBe('403 sign-in-refused');
      const [entry] = await house.log(1);
      expect(entry).toMatchObject({ action: 'staff.sign-in', outcome: 'refused', reason: 'sign-in-refused', facts: { method: 'ldap' } });
      expect(JSON.stringify(entry)).not.toMatch(/-secret/);
    });

    test('tried too often for one address is not passed on to the directory, which would lock the account', async () => {
      house.pass(16 * 60_000);
      for (let n = 0; n < 5; n++) await post('passwords', { address: 'bob@corp.example', password: `guess ${n}` });
      const answer = await post('passwords', { address: 'bob@corp.example', password: 'bob-secret' });
      expect(said(answer)).toBe('429 too-many-attempts');
      house.pass(16 * 60_000);
      expect(said(await post('passwords', { address: 'bob@corp.example', password: 'bob-secret' }))).toBe('204');
    });
  });

  describe('a provider’s word', () => {
    const refusedAt = async (person: BrowserPerson) => {
      const words = await person.alert();
      await person.context.close();
      return words;
    };

    test('for an address that was not verified, or is nobody’s here, signs nobody in', async () => {
      provider.accounts.set('unverified', { email: 'anna@corp.example', email_verified: false });
      provider.accounts.set('outsider', { email: 'anna@elsewhere.example', email_verified: true });
      provider.accounts.set('silent', {});
      for (const login of ['unverified', 'outsider', 'silent']) {
        const person = await browser.person();
        await byProvider(person, login);
        expect(await refusedAt(person)).toMatch(/does not belong to anybody here/);
      }
    });

    test('that was sent to another browser is worth nothing there: neither a stolen code nor a planted one', async () => {
      const [victim, thief] = [await browser.person(), await browser.person()];
      const stopped = onItsWayBack(victim, 'stop');
      await byProvider(victim, 'anna').catch(() => undefined);
      const { url: callback } = await stopped;
      expect(callback).toContain('code=');
      await thief.page.goto(base);
      await thief.page.goto(callback);
      expect(await thief.alert()).toMatch(/did not vouch/);
      // With a sign-in of their own begun: another state, another verifier.
      const begun = await ask('oidc');
      const cookie = cookieOf(begun);
      const replayed = await raw(callback, house.root, { headers: { cookie } });
      expect(replayed.setCookie.join()).not.toContain('__Host-ekms-staff=');
      await victim.context.close();
      await thief.context.close();
    });

    test('that comes twice counts once', async () => {
      const anna = await browser.person();
      const back = onItsWayBack(anna, 'go on');
      await byProvider(anna, 'anna');
      await signedIn(anna);
      const { url, cookie } = await back;
      expect(cookie).toContain('__Host-ekms-staff-oidc=');
      const again = await raw(url, house.root, { headers: { cookie } });
      expect(again.status).toBe(303);
      expect(again.setCookie.join()).not.toContain('__Host-ekms-staff=');
      await anna.context.close();
    });

    test('tampered with in any parameter, or of another issuer, signs nobody in', async () => {
      const begun = await ask('oidc');
      const cookie = cookieOf(begun);
      const tries = [
        '',
        '?code=x',
        '?code=x&state=y',
        `?error=access_denied&state=z`,
        `?code=x&state=y&iss=https://evil.example`,
        '?code=a&code=b&state=c&state=d',
      ];
      for (const query of tries) {
        const answer = await raw(`${base}/v1/staff/oidc/callback${query}`, house.root, { headers: { cookie } });
        expect([query, answer.status, answer.setCookie.filter((text) => text.startsWith('__Host-ekms-staff='))]).toEqual([query, 303, []]);
      }
    });

    test('is asked for with PKCE, state, nonce and the one redirect address', async () => {
      const answer = await new Promise<string>((resolve, reject) => {
        import('node:https').then(
          ({ get }) =>
            get(`${base}/v1/staff/oidc`, { ca: [house.root] }, ({ headers }) => resolve(String(headers.location))).on('error', reject),
          reject,
        );
      });
      const asked = new URL(answer);
      expect(asked.origin).toBe(new URL(provider.issuer).origin);
      expect(Object.fromEntries(asked.searchParams)).toMatchObject({
        response_type: 'code',
        client_id: 'ekms',
        redirect_uri: `${base}/v1/staff/oidc/callback`,
        code_challenge_method: 'S256',
        code_challenge: expect.stringMatching(/^[\w-]{43}$/),
        state: expect.stringMatching(/^[\w-]{43}$/),
        nonce: expect.stringMatching(/^[\w-]{43}$/),
      });
    });
  });

  describe('a session', () => {
    const session = async (address: string) => cookieOf(await post('passwords', { address, password: `${address.split('@')[0]}-secret` }));

    test('is asked for by the appliance’s own pages alone', async () => {
      const cross = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };
      expect(said(await post('codes', { address: 'anna@corp.example' }, cross))).toBe('403 cross-site');
      expect(said(await post('passwords', { address: 'anna@corp.example', password: 'anna-secret' }, cross))).toBe('403 cross-site');
    });

    test('opens nothing at the administration listener, and nothing without it', async () => {
      house.pass(16 * 60_000);
      const cookie = await session('anna@corp.example');
      expect(said(await ask('me', { headers: { cookie } }))).toBe('200');
      const administration = house.house.origins.of('administration');
      expect(said(await raw(`${administration}/v1/admin/me`, house.root, { headers: { cookie } }))).toBe('401 session-missing');
      expect(said(await ask('me'))).toBe('401 session-missing');
    });

    test('of a leaver ends with the sync that sees them leave; of a reassigned address with it', async () => {
      house.pass(16 * 60_000);
      slapd.person('erik', 'erik@corp.example');
      slapd.person('frida', 'frida@corp.example');
      await house.act('directory.sync', {});
      const [erik, frida] = [await session('erik@corp.example'), await session('frida@corp.example')];
      expect(said(await ask('me', { headers: { cookie: erik } }))).toBe('200');
      slapd.delete(`uid=erik,${PEOPLE}`);
      slapd.modify(`dn: uid=frida,${PEOPLE}\nchangetype: modify\nreplace: mail\nmail: frida.neu@corp.example\n`);
      await house.act('directory.sync', {});
      expect(said(await ask('me', { headers: { cookie: erik } }))).toBe('401 session-ended');
      expect(said(await ask('me', { headers: { cookie: frida } }))).toBe('401 session-ended');
      expect(said(await post('passwords', { address: 'erik@corp.example', password: 'erik-secret' }))).toBe('403 sign-in-refused');
    });
  });

  test('a directory or provider that is away lets nobody in and says so', async () => {
    await slapd.stop();
    house.pass(16 * 60_000);
    const answer = await post('passwords', { address: 'anna@corp.example', password: 'anna-secret' });
    expect(said(answer)).toBe('503 directory-unavailable');
    // Where the directory is and how it is asked is nobody's business out there.
    expect(JSON.stringify(answer.json)).not.toMatch(/ldap|localhost|cn=/i);
    await slapd.start();
    expect(said(await post('passwords', { address: 'anna@corp.example', password: 'anna-secret' }))).toBe('204');
  });

  test('the second proof at enrolment: who reads the mailbox waits, until the person, signed in by the organisation, says that the device is theirs', async () => {
    const begun = await begin(house, 'anna@corp.example');
    const half = await mailedHalf(house, begun);
    expect((await giveAnswer(house, begun, half)).json).toEqual({ state: 'waiting', for: 'directory' });
    // Who reads the mailbox can sign in by a code: that proves nothing more.
    house.pass(6 * 60_000);
    const { id, code } = await codeFor('anna@corp.example');
    const byCode = cookieOf(await post(`codes/${id}`, { code }));
    const confirmation = `enrolments/${begun.id}/confirmation`;
    expect(said(await post(confirmation, { confirm: true }, { cookie: byCode }))).toBe('403 directory-proof-needed');
    // Somebody else, rightly signed in, sees nothing of it.
    const bob = cookieOf(await post('passwords', { address: 'bob@corp.example', password: 'bob-secret' }));
    expect((await ask('enrolments', { headers: { cookie: bob } })).json).toEqual([]);
    expect(said(await post(confirmation, { confirm: true }, { cookie: bob }))).toBe('404 enrolment-unknown');
    expect((await giveAnswer(house, begun, half)).json).toEqual({ state: 'waiting', for: 'directory' });
    // Anna herself, at the page.
    const anna = await browser.person();
    await byProvider(anna, 'anna');
    await signedIn(anna);
    await anna.page.click('#devices button:has-text("This is my device")');
    await anna.page.locator('#nothing').waitFor();
    const done = await giveAnswer(house, begun, half);
    expect(done.json).toMatchObject({ device: expect.any(String) });
    // A device she knows nothing of.
    const other = await begin(house, 'anna@corp.example');
    const otherHalf = await mailedHalf(house, other);
    await giveAnswer(house, other, otherHalf);
    await anna.page.reload();
    await anna.page.click('#devices button:has-text("I know nothing of it")');
    await anna.page.locator('#nothing').waitFor();
    expect(refusal(await giveAnswer(house, other, otherHalf))).toBe('403 enrolment-denied');
    await anna.context.close();
  });

  test('a sign-in that is too old is no second proof', async () => {
    const begun = await begin(house, 'bob@corp.example');
    await giveAnswer(house, begun);
    house.pass(16 * 60_000);
    const cookie = cookieOf(await post('passwords', { address: 'bob@corp.example', password: 'bob-secret' }));
    house.pass(11 * 60_000);
    expect(said(await post(`enrolments/${begun.id}/confirmation`, { confirm: true }, { cookie }))).toBe('403 proof-needed');
  });

  test('nothing of all this was a defect', () => {
    expect(house.defects).toEqual([]);
  });
});
