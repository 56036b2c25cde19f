import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { type AdministratorActor, NetworkPolicy, Origins, RowSeal, SessionGuard, Sessions } from '../../src/access/index.js';
import { AdministratorSignIn } from '../../src/administration/administrator-sign-in.js';
import { Administrators } from '../../src/administration/administrators.js';
import type { Approvals } from '../../src/administration/index.js';
import { Invitations } from '../../src/administration/invitations.js';
import { assertion, attestation, Passkeys } from '../../src/administration/passkeys.js';
import { DurableAuditLog } from '../../src/audit/index.js';
import { Fault, isFault, SystemClock } from '../../src/foundation/index.js';
import { openStorage, type SqlStorage } from '../../src/storage/index.js';
import { TokenServer } from '../../src/tokens/process/server.js';
import { type Guard, guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';
import { SoftPasskey } from '../support/soft-passkey.js';

jest.setTimeout(60_000);

const ending: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end();
});

const clock = new SystemClock();
const seal = new RowSeal(Buffer.alloc(32, 7));
const origins = new Origins('keys.corp.example', { administration: 8444, staff: 8445 });
const desk = { id: 'r1', network: '10.2.0.7' };
const elsewhere = { id: 'r2', network: '10.2.0.8' };

async function database(): Promise<SqlStorage> {
  const home = mkdtempSync(join(tmpdir(), 'ekms-guard-'));
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  ending.push(
    () => rmSync(home, { recursive: true, force: true }),
    () => storage.close(),
  );
  return storage;
}

/** What the attack got: `in`, or the code of the refusal. */
async function outcome(attack: () => unknown): Promise<string> {
  try {
    await attack();
    return 'in';
  } catch (error) {
    if (isFault(error)) return error.code;
    throw error;
  }
}

/** The attack with the guard on its place, and with it taken out: only then it gets in. */
function eachWay<M>(name: string, guard: Guard, real: M, refusal: string, attack: (module: M) => Promise<() => unknown>): void {
  test(`${name}: ${refusal}; guard off: in`, async () => {
    expect(await outcome(await attack(real))).toBe(refusal);
    expect(await outcome(await attack(guardOff<M>(guard)))).toBe('in');
  });
}

describe('sessions', () => {
  const file = 'src/access/sessions.ts';
  const lives = { administration: { idle: 60_000, absolute: 60_000 }, staff: { idle: 60_000, absolute: 60_000 } };
  /** A signed-in browser's cookie. */
  const signedIn = async ({ Sessions: Made }: { Sessions: typeof Sessions }, audience: 'administration' | 'staff' = 'administration') => {
    const storage = await database();
    const sessions = new Made(storage, new DurableAuditLog(clock), seal, clock, lives);
    const how = { audience, subject: 'anna', method: 'passkey' };
    const { cookie } = await storage.write((unit) => sessions.begin(unit, how, { kind: 'administrator', id: 'anna' }, desk));
    return { storage, sessions, cookie: cookie.split(';')[0] ?? '' };
  };

  eachWay(
    'a cookie from another address',
    { file, guard: 'if (row.network !== request.network) {', instead: 'if (false as boolean) {' },
    { Sessions },
    'session-elsewhere',
    async (module) => {
      const { sessions, cookie } = await signedIn(module);
      return () => sessions.admit('administration', cookie, elsewhere);
    },
  );
  eachWay(
    'a cookie of the staff listener under the name of the other',
    { file, guard: 'row?.audience !== audience || ', instead: '!row || ' },
    { Sessions },
    'session-ended',
    async (module) => {
      const { sessions, cookie } = await signedIn(module, 'staff');
      return () => sessions.admit('administration', cookie.replace('staff', 'administration'), desk);
    },
  );
  eachWay(
    'a session that was written into the database',
    { file, guard: " || !this.seal.holds('sessions', sealed(row, digest), row.mac)", instead: '' },
    { Sessions },
    'session-ended',
    async (module) => {
      const { storage, sessions, cookie } = await signedIn(module);
      await storage.write((unit) => unit.run("UPDATE sessions SET subject = 'mallory'"));
      return () => sessions.admit('administration', cookie, desk);
    },
  );
  eachWay(
    'a token that was planted in the browser before its owner signed in (fixation)',
    // Taking up what somebody else knows, instead of drawing anew.
    { file, guard: 'const token = randomBytes(TOKEN_BYTES);', instead: 'void randomBytes; const token = Buffer.alloc(TOKEN_BYTES, 5);' },
    { Sessions },
    'session-ended',
    async (module) => {
      const { sessions } = await signedIn(module);
      const planted = `__Host-ekms-administration=${Buffer.alloc(32, 5).toString('base64url')}`;
      return () => sessions.admit('administration', planted, desk);
    },
  );
});

eachWay(
  'what another site sends with the right cookie (cross-site request forgery)',
  {
    file: 'src/access/origins.ts',
    guard: 'if (!fits) throw',
    instead: 'void fits; if (false as boolean) throw',
  },
  { Origins },
  'cross-site',
  async ({ Origins: Made }) => {
    const pages = new Made('keys.corp.example', { administration: 8444, staff: 8445 });
    return () => pages.requireOwn('administration', 'POST', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' });
  },
);

describe('passkeys', () => {
  const file = 'src/administration/passkeys.ts';
  /** An administrator's passkey, and what their browser sent to sign in. */
  const assertedOnce = async ({ Passkeys: Made }: { Passkeys: typeof Passkeys }) => {
    const storage = await database();
    const passkeys = new Made(storage, seal, clock, origins);
    const soft = new SoftPasskey(origins.publicName, origins.of('administration'));
    const made = soft.create(await passkeys.creationOptions({ id: 'anna', name: 'Anna', shown: 'anna@corp.example' }, 'anna', desk));
    const fresh = await passkeys.attested(attestation.parse(made), desk);
    await storage.write(async (unit) => {
      const anna =
        "INSERT INTO administrators (id, name, address, role, state, created, mac) VALUES ('anna', 'Anna', 'anna', NULL, 'active', 0, ?)";
      await unit.run(anna, [Buffer.alloc(32)]);
      await passkeys.insert(unit, fresh, 'anna', 'soft');
    });
    const sent = assertion.parse(soft.get(await passkeys.requestOptions('sign-in', '', desk)));
    return { storage, passkeys, sent };
  };

  eachWay(
    'an assertion that is sent a second time',
    { file, guard: "await unit.run('DELETE FROM ceremonies WHERE challenge = ?', [challenge]);", instead: '' },
    { Passkeys },
    'challenge-unknown',
    async (module) => {
      const { passkeys, sent } = await assertedOnce(module);
      // Before its counter is written: else the next guard stops it.
      await passkeys.asserted('sign-in', sent, desk);
      return () => passkeys.asserted('sign-in', sent, desk);
    },
  );
  eachWay(
    'the same after its counter was written, as a copied authenticator would',
    { file, guard: '(counter > 0 || passkey.counter > 0) && counter <= passkey.counter', instead: 'false as boolean' },
    { Passkeys },
    'passkey-cloned',
    async (module) => {
      const { storage, passkeys, sent } = await assertedOnce(module);
      await storage.write((unit) => unit.run('UPDATE passkeys SET counter = 1000'));
      return () => passkeys.asserted('sign-in', sent, desk);
    },
  );
  eachWay(
    'an assertion for signing in, where one to approve is asked for',
    { file, guard: 'row?.purpose === purpose &&', instead: 'row !== undefined &&' },
    { Passkeys },
    'challenge-unknown',
    async (module) => {
      const { passkeys, sent } = await assertedOnce(module);
      return () => passkeys.asserted('approve', sent, desk);
    },
  );
});

class LaterClock extends SystemClock {
  ahead = 0;
  override now(): Date {
    return new Date(super.now().getTime() + this.ahead);
  }
}
/** Anna, an administrator with a passkey and a session, and more like her. */
const passkeySite = async ({ Passkeys: Made }: { Passkeys: typeof Passkeys }) => {
  const storage = await database();
  const clock = new LaterClock();
  const passkeys = new Made(storage, seal, clock, origins);
  const sessions = new Sessions(storage, new DurableAuditLog(clock), seal, clock, {
    administration: { idle: 3_600_000, absolute: 3_600_000 },
    staff: { idle: 1, absolute: 1 },
  });
  const memory = { bootstrapIsOver: async () => false, endBootstrap: async () => {} };
  const administrators = new Administrators(storage, new DurableAuditLog(clock), seal, passkeys, sessions, clock, memory);
  const person = async (id: string) => {
    const soft = new SoftPasskey(origins.publicName, origins.of('administration'));
    const made = soft.create(await passkeys.creationOptions({ id, name: id, shown: `${id}@corp.example` }, id, desk));
    const fresh = await passkeys.attested(attestation.parse(made), desk);
    const session = await storage.write(async (unit) => {
      await administrators.insert(unit, { id, name: id, address: `${id}@corp.example`, role: null, state: 'active', created: 0 });
      await passkeys.insert(unit, fresh, id, 'soft');
      const how = { audience: 'administration', subject: id, method: 'passkey' } as const;
      return (await sessions.begin(unit, how, { kind: 'administrator', id }, desk)).session;
    });
    const actor: AdministratorActor = { kind: 'administrator', id, role: null, session, request: desk };
    return { soft, actor, key: fresh.id };
  };
  const anna = await person('anna');
  const sign = async () => assertion.parse(anna.soft.get(await passkeys.requestOptions('sign-in', '', desk)));
  return { storage, audit: new DurableAuditLog(clock), clock, passkeys, sessions, administrators, person, anna, sign };
};

describe('passkeys, answered', () => {
  const file = 'src/administration/passkeys.ts';
  eachWay(
    'from another address than it was asked for',
    { file, guard: 'row.network === request.network &&', instead: '' },
    { Passkeys },
    'challenge-unknown',
    async (module) => {
      const { passkeys, sign } = await passkeySite(module);
      const sent = await sign();
      return () => passkeys.asserted('sign-in', sent, elsewhere);
    },
  );
  eachWay(
    'six minutes later',
    { file, guard: 'this.clock.now().getTime() < row.expires &&', instead: '' },
    { Passkeys },
    'challenge-unknown',
    async (module) => {
      const { passkeys, sign, clock } = await passkeySite(module);
      const sent = await sign();
      clock.ahead = 6 * 60_000;
      return () => passkeys.asserted('sign-in', sent, desk);
    },
  );
  eachWay(
    'to a challenge that was changed in the database',
    { file, guard: "this.seal.holds('ceremonies', sealedCeremony(row), row.mac);", instead: 'true;' },
    { Passkeys },
    'challenge-unknown',
    async (module) => {
      const { passkeys, sign, storage } = await passkeySite(module);
      const sent = await sign();
      await storage.write((unit) => unit.run("UPDATE ceremonies SET subject = 'another'"));
      return () => passkeys.asserted('sign-in', sent, desk);
    },
  );
  eachWay(
    'in a frame of another site',
    { file, guard: ' || told.crossOrigin === true', instead: '' },
    { Passkeys },
    'challenge-unknown',
    async (module) => {
      const { passkeys, sign, anna } = await passkeySite(module);
      anna.soft.isFramed = true;
      const sent = await sign();
      return () => passkeys.asserted('sign-in', sent, desk);
    },
  );
  eachWay(
    'in the name of somebody else',
    { file, guard: '!== passkey.administrator) throw refused();', instead: '=== undefined) throw refused();' },
    { Passkeys },
    'passkey-refused',
    async (module) => {
      const { passkeys, sign } = await passkeySite(module);
      const sent = await sign();
      sent.response.userHandle = Buffer.from('ben').toString('base64url');
      return () => passkeys.asserted('sign-in', sent, desk);
    },
  );
  eachWay(
    'by two authenticators with one key at the same time',
    { file, guard: 'if (changed === 0) throw', instead: 'if (changed < 0) throw' },
    { Passkeys },
    'passkey-cloned',
    async (module) => {
      const { passkeys, sign, anna, storage } = await passkeySite(module);
      const one = await passkeys.asserted('sign-in', await sign(), desk);
      anna.soft.counter -= 1;
      const other = await passkeys.asserted('sign-in', await sign(), desk);
      await storage.write((unit) => passkeys.settle(unit, one));
      return () => storage.write((unit) => passkeys.settle(unit, other));
    },
  );

  const signing = 'src/administration/administrator-sign-in.ts';
  const FRESH = (verb: string) => `${verb}: Promise<void> {\n    this.requireFresh(actor);`;
  eachWay(
    'by somebody else, to prove that it is still oneself',
    { file: signing, guard: ' || asserted.passkey.administrator !== actor.id', instead: '' },
    { AdministratorSignIn },
    'passkey-refused',
    async ({ AdministratorSignIn: Made }) => {
      const parts = await passkeySite({ Passkeys });
      const ben = await parts.person('ben');
      const desk = new Made(parts);
      const { actor } = parts.anna;
      const sent = assertion.parse(ben.soft.get(await desk.proofOptions(actor)));
      return () => desk.prove(actor, sent);
    },
  );
  eachWay(
    'an hour ago, to take one’s passkey away',
    {
      file: signing,
      guard: FRESH('removePasskey(actor: AdministratorActor, id: string)'),
      instead: 'removePasskey(actor: AdministratorActor, id: string): Promise<void> {',
    },
    { AdministratorSignIn },
    'proof-needed',
    async ({ AdministratorSignIn: Made }) => {
      const parts = await passkeySite({ Passkeys });
      const desk = new Made(parts);
      const { actor, key } = parts.anna;
      const second = new SoftPasskey(origins.publicName, origins.of('administration'));
      await desk.addPasskey(actor, 'second', attestation.parse(second.create(await desk.passkeyOptions(actor))));
      parts.clock.ahead = 3_000_000;
      return () => desk.removePasskey(actor, key);
    },
  );
  eachWay(
    'by one that was made for somebody else, to add it to one’s own',
    { file: signing, guard: 'if (fresh.subject !== actor.id) throw', instead: 'if (false as boolean) throw' },
    { AdministratorSignIn },
    'passkey-refused',
    async ({ AdministratorSignIn: Made }) => {
      const parts = await passkeySite({ Passkeys });
      const ben = await parts.person('ben');
      const desk = new Made(parts);
      const second = new SoftPasskey(origins.publicName, origins.of('administration'));
      const made = attestation.parse(second.create(await desk.passkeyOptions(ben.actor)));
      return () => desk.addPasskey(parts.anna.actor, 'second', made);
    },
  );
  eachWay(
    'of another person, to take it away',
    { file: signing, guard: 'if (!own.some((passkey) => passkey.id === id)) throw', instead: 'if (false as boolean) throw' },
    { AdministratorSignIn },
    'passkey-unknown',
    async ({ AdministratorSignIn: Made }) => {
      const parts = await passkeySite({ Passkeys });
      const ben = await parts.person('ben');
      const desk = new Made(parts);
      const second = new SoftPasskey(origins.publicName, origins.of('administration'));
      await desk.addPasskey(parts.anna.actor, 'second', attestation.parse(second.create(await desk.passkeyOptions(parts.anna.actor))));
      return () => desk.removePasskey(parts.anna.actor, ben.key);
    },
  );
});

describe('an administrator', () => {
  const operator = { kind: 'operator' } as const;
  const left = async ({ administrators, sessions, passkeys }: Awaited<ReturnType<typeof passkeySite>>) => ({
    sessions: (await sessions.list('administration', 'anna')).length,
    passkeys: (await passkeys.of('anna')).length,
    known: (await administrators.list()).length,
  });

  test('whose role changes has no session any more, and one who is removed no passkey either', async () => {
    const site = await passkeySite({ Passkeys });
    expect(await left(site)).toEqual({ sessions: 1, passkeys: 1, known: 1 });
    await site.administrators.setRole('anna', 'auditor', operator);
    expect(await left(site)).toEqual({ sessions: 0, passkeys: 1, known: 1 });
    await site.administrators.remove('anna', operator);
    expect(await left(site)).toEqual({ sessions: 0, passkeys: 0, known: 0 });
  });

  eachWay(
    'who was removed and whose session stands all the same',
    { file: 'src/access/session-guard.ts', guard: "if (known?.state !== 'active') throw", instead: 'if (!known) throw' },
    { SessionGuard },
    'session-ended',
    async ({ SessionGuard: Made }) => {
      const { administrators, sessions, storage, audit } = await passkeySite({ Passkeys });
      await administrators.remove('anna', operator);
      const how = { audience: 'administration', subject: 'anna', method: 'passkey' } as const;
      const { cookie } = await storage.write((unit) => sessions.begin(unit, how, { kind: 'administrator', id: 'anna' }, desk));
      const guard = new Made(sessions, administrators, { storage, audit });
      return () => guard.administrator(cookie.split(';')[0], [], desk);
    },
  );
});

describe('an invitation', () => {
  const file = 'src/administration/invitations.ts';
  const operator = { kind: 'operator' } as const;
  const linked = async ({ Invitations: Made }: { Invitations: typeof Invitations }) => {
    const parts = await passkeySite({ Passkeys });
    const invitations = new Made({ ...parts, seal, origins });
    return { ...parts, invitations, token: (link: { link: string }) => link.link.split('#')[1] ?? '' };
  };
  const dora = { name: 'Dora', address: 'dora@corp.example' };

  eachWay(
    'of yesterday',
    { file, guard: 'clock.now().getTime() >= row.expires || ', instead: '' },
    { Invitations },
    'invitation-unknown',
    async (module) => {
      const { invitations, token, clock } = await linked(module);
      const link = token(await invitations.invite({}, operator));
      clock.ahead = 86_400_000;
      return () => invitations.options(link, dora, desk);
    },
  );
  eachWay(
    'that gives more than it was made with, by a hand in the database',
    { file, guard: " || !seal.holds('invitations', sealed(row, digest), row.mac)", instead: '' },
    { Invitations },
    'invitation-unknown',
    async (module) => {
      const { invitations, token, storage } = await linked(module);
      const link = token(await invitations.invite({ role: 'auditor' }, operator));
      await storage.write((unit) => unit.run("UPDATE invitations SET role = 'security-officer'"));
      return () => invitations.options(link, dora, desk);
    },
  );
  test('to renew one’s passkeys ends the former ones, and the sessions that they began', async () => {
    const { invitations, token, passkeys, sessions, anna } = await linked({ Invitations });
    const link = token(await invitations.renew('anna', operator));
    const soft = new SoftPasskey(origins.publicName, origins.of('administration'));
    const response = attestation.parse(soft.create(await invitations.options(link, {}, desk)));
    await invitations.accept(link, { invitee: {}, passkey: 'soft', response }, desk);
    expect((await passkeys.of('anna')).map(({ id }) => id)).toEqual([soft.id.toString('base64url')]);
    expect((await sessions.list('administration', 'anna')).map(({ id }) => id)).not.toContain(anna.actor.session.id);
    expect(await outcome(() => invitations.options(link, {}, desk))).toBe('invitation-unknown');
  });
});

describe('the network', () => {
  const file = 'src/access/network-policy.ts';
  const judge = async ({ NetworkPolicy: Made }: { NetworkPolicy: typeof NetworkPolicy }) => {
    const network = { internal: ['127.0.0.0/8', '10.0.0.0/8'], proxies: {}, connectionsPerAddress: 500 };
    const networks = { employees: { addresses: ['10.1.0.0/16', '192.0.2.0/24'], reach: ['client'] } };
    return new Made({ network, networks } as never); // what judging reads of a document
  };
  const asks = (address: string) => async (module: { NetworkPolicy: typeof NetworkPolicy }) => {
    const policy = await judge(module);
    return () => {
      const rule = policy.refusal('client', address);
      if (rule) throw new Fault('forbidden', rule, rule);
    };
  };
  eachWay(
    'an address that no network names',
    { file, guard: "return this.#allowed[kind].has(address) ? undefined : 'network-not-listed';", instead: 'return undefined;' },
    { NetworkPolicy },
    'network-not-listed',
    asks('10.9.0.1'),
  );
  eachWay(
    'an outside address that somebody listed',
    // Both places that keep a list within network.internal.
    {
      file,
      guard:
        "if (!this.internal.has(address)) return 'network-outside';\n    return this.#allowed[kind].has(address) ? undefined : 'network-not-listed';",
      instead: 'return undefined;',
    },
    { NetworkPolicy },
    'network-outside',
    asks('192.0.2.5'),
  );
});

describe('the token process’s socket', () => {
  const file = 'src/tokens/process/server.ts';
  const isRoot = process.getuid?.() === 0;
  /** What a user of no group of ours hears who opens the socket; without root, who of its mode may. */
  const stranger = async ({ TokenServer: Made }: { TokenServer: typeof TokenServer }) => {
    const folder = mkdtempSync(join(tmpdir(), 'ekms-door-'));
    const socket = join(folder, 'token.sock');
    const server = new Made(socket, async () => 'null');
    await server.listen();
    ending.push(
      () => rmSync(folder, { recursive: true, force: true }),
      () => server.close(),
    );
    chmodSync(folder, 0o711);
    if (!isRoot) return (statSync(socket).mode & 0o077) === 0 ? 'Permission denied' : 'connected';
    const script = 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack_sockaddr_un($ARGV[0])) ? "connected" : "$!"';
    const as = ['--reuid', '65534', '--regid', '65534', '--clear-groups', 'perl', '-e', script, socket];
    return execFileSync('setpriv', as, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  };

  test('opens for its own user alone; guard off: for whoever is on the machine', async () => {
    const before = process.umask(0);
    ending.push(() => process.umask(before));
    expect(await stranger({ TokenServer })).toBe('Permission denied');
    const guard = 'chmodSync(this.path, this.shared ? 0o660 : 0o600);';
    expect(await stranger(guardOff({ file, guard, instead: 'void chmodSync;' }))).toBe('connected');
  });
});

describe('two persons', () => {
  const file = 'src/administration/approvals.ts';
  const GUARDS = {
    requester: { file, guard: 'if (isRequester(row, actor))', instead: 'if (false as boolean)' },
    recount: { guard: "!isRequester(row, { kind: 'administrator', id: approval.administrator }) &&", instead: '' },
    expiry: { file, guard: 'if (this.#now() >= row.expires) throw', instead: 'if (false as boolean) throw' },
    shown: { guard: "const waits = this.#now() >= expires ? 'expired' : ", instead: 'const waits = ' },
  };
  let house: HouseInProcess;
  let anna: TestAdministrator;
  let boris: TestAdministrator;
  let otto: TestAdministrator;
  beforeAll(async () => {
    house = await HouseInProcess.open();
    otto = await TestAdministrator.register(house, 'otto', 'auditor');
    anna = await TestAdministrator.register(house, 'anna');
    boris = await TestAdministrator.register(house, 'boris');
  });
  afterAll(() => house?.close());

  /** The appliance goes on with approvals of this class, until the test is over. */
  const following = (Made: typeof Approvals) => {
    const real = house.house.approvals;
    const { parts } = real as unknown as { parts: ConstructorParameters<typeof Approvals>[0] };
    house.house.approvals = new Made(parts, 72);
    ending.push(() => {
      house.house.approvals = real;
    });
  };
  const asked = async (role: string) => ((await anna.act('admin.role', { id: otto.id, role })).json as { id: string }).id;

  test('the requester approves their own request: refused; guards off, both: it is done by one person alone', async () => {
    expect(await anna.approve(await asked('operator'))).toMatchObject({ code: 'requester-approves' });
    following(guardOff<{ Approvals: typeof Approvals }>(GUARDS.requester).Approvals);
    // The second guard still counts no approval of the requester's own.
    expect(await anna.approve(await asked('operator'))).toMatchObject({ json: { state: 'open' } });
    following(guardOff<{ Approvals: typeof Approvals }>(GUARDS.requester, GUARDS.recount).Approvals);
    expect(await anna.approve(await asked('operator'))).toMatchObject({ status: 200, json: { state: 'done' } });
  });

  test('a request that has expired: refused; guard off: it is done', async () => {
    const [first, second] = [await asked('auditor'), await asked('auditor')];
    house.pass(73 * 3_600_000);
    await boris.signIn();
    expect(await boris.approve(first)).toMatchObject({ code: 'request-expired' });
    following(guardOff<{ Approvals: typeof Approvals }>(GUARDS.expiry, GUARDS.shown).Approvals);
    expect(await boris.approve(second)).toMatchObject({ status: 200, json: { state: 'done' } });
  });
});
