import 'reflect-metadata';
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { Approvals } from '../../src/administration/approvals.js';
import { ActDesk } from '../../src/commands/act-desk.js';
import { RequestFiled } from '../../src/commands/ask-appliance.js';
import { canonicalJson, type Fault, type Json, sha256 } from '../../src/foundation/index.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';

jest.setTimeout(60_000);

const open: HouseInProcess[] = [];
afterEach(async () => {
  for (const house of open.splice(0)) await house.close();
});

/** An appliance after bootstrap: two security officers, an operator, an auditor. */
async function site() {
  const house = await HouseInProcess.open();
  open.push(house);
  const auditor = await TestAdministrator.register(house, 'otto', 'auditor');
  const operator = await TestAdministrator.register(house, 'olga', 'operator');
  const anna = await TestAdministrator.register(house, 'anna');
  const boris = await TestAdministrator.register(house, 'boris');
  return { house, anna, boris, operator, auditor };
}

/** Has `role` given by Anna; resolves with the id of the request. */
async function asked(by: TestAdministrator, id: string, role: string): Promise<string> {
  const answer = await by.act('admin.role', { id, role });
  expect(answer).toMatchObject({ status: 202, json: { state: 'open', needed: 1, approvals: [] } });
  return (answer.json as { id: string }).id;
}

const roleOf = async (house: HouseInProcess, id: string) => (await house.house.administrators.find(id))?.role;
const actions = async (house: HouseInProcess) =>
  (await house.log(60)).map(({ action, outcome, reason }) => [action, outcome, ...(reason ? [reason] : [])].join(' '));

describe('bootstrap', () => {
  test('until two officers are registered one person alone does what is dangerous, and each such act is marked; then never again', async () => {
    const house = await HouseInProcess.open();
    open.push(house);
    await house.act('app.issue', { platform: 'linux' });
    expect(await actions(house)).toContain('bootstrap.act done');
    const anna = await TestAdministrator.register(house, 'anna');
    expect((await anna.ask('GET', 'me')).json).toMatchObject({ role: 'security-officer', bootstrap: true });
    expect(await anna.act('admin.role', { id: anna.id, role: 'security-officer' })).toMatchObject({ status: 200 });
    await anna.signIn();
    const late = ((await house.act('admin.invite', {})) as { link: string }).link;
    const boris = await TestAdministrator.register(house, 'boris');
    expect(await actions(house)).toContain('bootstrap.end done');
    // A link of bootstrap that is followed afterwards gives no role any more.
    const clara = await TestAdministrator.register(house, 'clara', undefined, late);
    expect(await roleOf(house, clara.id)).toBeNull();
    await expect(house.act('admin.invite', { role: 'security-officer' })).rejects.toMatchObject({ code: 'role-needs-two' });
    // Whoever writes the database does not bring it back while the officers stand.
    await house.db.write((unit) => unit.run("DELETE FROM settings WHERE name = 'bootstrap-over'"));
    await expect(house.act('app.issue', { platform: 'linux' })).rejects.toBeInstanceOf(RequestFiled);
    expect(await boris.act('admin.remove', { id: anna.id })).toMatchObject({ status: 202 });
  });
});

describe('two persons', () => {
  test('the requester cannot approve; another officer can; it is done once, and both are in the log', async () => {
    const { house, anna, boris, operator, auditor } = await site();
    const id = await asked(anna, auditor.id, 'recovery-agent');
    expect(await anna.approve(id)).toMatchObject({ status: 403, code: 'requester-approves' });
    expect(await operator.approve(id)).toMatchObject({ status: 403, code: 'role-missing' });
    expect(await roleOf(house, auditor.id)).toBe('auditor');
    expect(await boris.approve(id)).toMatchObject({ status: 200, json: { state: 'done', approvals: [{ administrator: boris.id }] } });
    expect(await roleOf(house, auditor.id)).toBe('recovery-agent');
    expect(await boris.approve(id)).toMatchObject({ status: 409, code: 'request-closed' });
    expect(await anna.ask('POST', `requests/${id}/performance`)).toMatchObject({ status: 409, code: 'request-closed' });
    const log = await house.log(60);
    const filed = log.find(({ action, subject }) => action === 'request.file' && subject === id);
    const approved = log.find(({ action, subject, outcome }) => action === 'request.approve' && subject === id && outcome === 'done');
    expect(filed).toMatchObject({ actor: { kind: 'administrator', id: anna.id }, facts: { act: 'admin.role' } });
    expect(approved).toMatchObject({ actor: { kind: 'administrator', id: boris.id }, facts: { hash: filed?.facts?.['hash'] } });
    expect(log.filter(({ action, outcome }) => action === 'administrator.role' && outcome === 'done')).toHaveLength(1);
    expect(await actions(house)).toEqual(expect.arrayContaining(['request.approve refused requester-approves', 'request.perform done']));
    expect(house.defects).toEqual([]);
  });

  test('the hash is what the document says, and what is kept can be verified without the appliance', async () => {
    const { anna, boris, auditor, house } = await site();
    const id = await asked(anna, auditor.id, 'operator');
    await boris.approve(id);
    const shown = (await anna.ask('GET', `requests/${id}`)).json as { hash: string; createdAt: string; expiresAt: string } & Record<
      string,
      Json
    >;
    const { hash, createdAt, expiresAt, args = null, act = null, role = null, needed = null, requester = null } = shown;
    const times = { created: Date.parse(createdAt), expires: Date.parse(expiresAt) };
    const computed = sha256(canonicalJson({ v: 1, id, act, args, role, needed, requester, ...times }));
    expect(computed.toString('base64url')).toBe(hash);
    const kept = await house.db.one<{ nonce: Buffer; client_data: Buffer }>('SELECT nonce, client_data FROM approvals WHERE request = ?', [
      id,
    ]);
    const challenge = sha256('ekms-approval:v1\0', computed, kept?.nonce ?? Buffer.alloc(0)).toString('base64url');
    expect(JSON.parse(String(kept?.client_data))).toMatchObject({ type: 'webauthn.get', challenge });
  });

  test('at the command line a person is known by an account alone: it takes two officers, and the result waits for whoever asked', async () => {
    const { house, anna, boris } = await site();
    const filed = (await house.act('app.issue', { platform: 'linux' }).catch((error: unknown) => error)) as RequestFiled;
    expect(filed).toBeInstanceOf(RequestFiled);
    const { id } = filed.request;
    expect(await anna.approve(id)).toMatchObject({ status: 200, json: { state: 'open', needed: 2 } });
    expect(await anna.approve(id)).toMatchObject({ status: 409, code: 'approved-already' });
    await expect(house.act('request.perform', { id })).rejects.toMatchObject({ code: 'approvals-missing' });
    expect(await boris.approve(id)).toMatchObject({ status: 200, json: { state: 'approved' } });
    expect(await anna.ask('POST', `requests/${id}/performance`)).toMatchObject({ status: 403, code: 'not-the-requester' });
    expect(await house.act('request.perform', { id })).toMatchObject({ platform: 'linux', key: expect.stringContaining('PRIVATE KEY') });
    await expect(house.act('request.perform', { id })).rejects.toMatchObject({ code: 'request-closed' });
    await expect(house.act('pool.fill', { count: 0 })).resolves.toBeDefined();
  });

  test('a session alone approves nothing: an assertion for another purpose, or for another request, is refused', async () => {
    const { house, anna, boris, auditor } = await site();
    const one = await asked(anna, auditor.id, 'operator');
    const other = await asked(anna, auditor.id, 'recovery-agent');
    const signIn = (await boris.ask('POST', 'sign-in/options')).json;
    expect(await boris.ask('POST', `requests/${one}/approvals`, { response: boris.passkey.get(signIn) })).toMatchObject({
      status: 401,
      code: 'challenge-unknown',
    });
    const proof = (await boris.ask('POST', 'proofs/options')).json;
    expect(await boris.ask('POST', `requests/${one}/approvals`, { response: boris.passkey.get(proof) })).toMatchObject({
      status: 401,
      code: 'challenge-unknown',
    });
    const options = (await boris.ask('POST', `requests/${other}/approvals/options`)).json;
    const response = boris.passkey.get(options);
    expect(await boris.ask('POST', `requests/${one}/approvals`, { response })).toMatchObject({ status: 401, code: 'passkey-refused' });
    expect(await boris.ask('POST', `requests/${other}/approvals`, { response })).toMatchObject({ status: 401, code: 'challenge-unknown' });
    expect(await roleOf(house, auditor.id)).toBe('auditor');
  });

  test('expired ones do nothing, approved or not', async () => {
    const { house, anna, boris, auditor } = await site();
    const id = await asked(anna, auditor.id, 'operator');
    const { id: collected } = ((await house.act('app.issue', { platform: 'linux' }).catch((error: unknown) => error)) as RequestFiled)
      .request;
    for (const officer of [anna, boris]) await officer.approve(collected);
    house.pass(73 * 3_600_000);
    for (const officer of [anna, boris]) await officer.signIn();
    expect(await boris.approve(id)).toMatchObject({ status: 409, code: 'request-expired' });
    await expect(house.act('request.perform', { id: collected })).rejects.toMatchObject({ code: 'request-expired' });
    expect((await anna.ask('GET', `requests/${id}`)).json).toMatchObject({ state: 'expired' });
  });

  test('a request that was denied or withdrawn is over', async () => {
    const { anna, boris, operator, auditor } = await site();
    const id = await asked(anna, auditor.id, 'operator');
    expect(await operator.ask('DELETE', `requests/${id}`)).toMatchObject({ status: 403, code: 'role-missing' });
    expect(await boris.ask('DELETE', `requests/${id}`)).toMatchObject({ status: 204 });
    expect(await boris.approve(id)).toMatchObject({ status: 409, code: 'request-closed' });
  });

  test('an approval ends with the role of whoever gave it', async () => {
    const { house, anna, boris, operator, auditor } = await site();
    const { id } = ((await house.act('app.issue', { platform: 'linux' }).catch((error: unknown) => error)) as RequestFiled).request;
    expect(await anna.approve(id)).toMatchObject({ status: 200 });
    for (const one of [operator, auditor]) await boris.approve(await asked(anna, one.id, 'security-officer'));
    await boris.approve(id);
    expect((await boris.ask('GET', `requests/${id}`)).json).toMatchObject({ state: 'approved' });
    await operator.signIn();
    await auditor.signIn();
    await operator.approve(await asked(auditor, anna.id, 'auditor'));
    await expect(house.act('request.perform', { id })).rejects.toMatchObject({ code: 'approvals-missing' });
  });

  test('an approval that ends before its act has changed anything is spent by nothing, unless the guard is out; nobody begins an act that is under way', async () => {
    const { house, anna, boris, operator, auditor } = await site();
    for (const one of [operator, auditor]) await boris.approve(await asked(anna, one.id, 'security-officer'));
    const { administrators, storage } = house.house;
    const { parts } = house.house.approvals as unknown as { parts: ConstructorParameters<typeof Approvals>[0] };
    /** Boris loses his role while an act that he approved waits for the token, say. */
    const ending = async (Made: typeof Approvals) => {
      const approvals = new Made(parts, 72);
      const { id } = ((await house.act('app.issue', { platform: 'linux' }).catch((error: unknown) => error)) as RequestFiled).request;
      for (const officer of [anna, boris]) await officer.approve(id);
      let open = () => {};
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      let done: Promise<string> | undefined;
      await new Promise<void>((begun) => {
        done = approvals.perform(id, async () => {
          begun();
          await gate;
          return storage.write(async () => 'changed');
        });
      });
      await expect(approvals.perform(id, async () => 'twice')).rejects.toMatchObject({ code: 'request-closed' });
      await administrators.setRole(boris.id, null, { kind: 'system' });
      open();
      const outcome = await done?.catch(({ code }: Fault) => code);
      await administrators.setRole(boris.id, 'security-officer', { kind: 'system' });
      await boris.signIn();
      return { outcome, request: await approvals.find(id) };
    };
    expect(await ending(Approvals)).toMatchObject({
      outcome: 'approvals-missing',
      request: { state: 'failed', reason: 'approvals-missing' },
    });
    const guard = { file: 'src/administration/approvals.ts', guard: 'await this.#requireApprovals(row, unit);', instead: '' };
    expect(await ending(guardOff<{ Approvals: typeof Approvals }>(guard).Approvals)).toMatchObject({ outcome: 'changed' });
  });

  test('what somebody asked for who lost their role since is not done', async () => {
    const { house, anna, boris, operator, auditor } = await site();
    const id = ((await operator.act('app.issue', { platform: 'linux' })).json as { id: string }).id;
    await boris.approve(id);
    await boris.approve(await asked(anna, operator.id, 'auditor'));
    await operator.signIn();
    expect(await operator.ask('POST', `requests/${id}/performance`)).toMatchObject({ status: 403, code: 'role-missing' });
    expect((await auditor.ask('GET', `requests/${id}`)).json).toMatchObject({ state: 'failed', reason: 'role-missing' });
    expect(await house.house.apps.list()).toHaveLength(1);
  });

  test('what is dangerous wants a fresh proof; two officers always remain', async () => {
    const { house, anna, boris, auditor } = await site();
    house.pass(6 * 60_000);
    expect(await anna.act('admin.role', { id: auditor.id, role: 'operator' })).toMatchObject({ status: 401, code: 'proof-needed' });
    const options = (await anna.ask('POST', 'proofs/options')).json;
    expect(await anna.ask('POST', 'proofs', { response: anna.passkey.get(options) })).toMatchObject({ status: 204 });
    const id = ((await anna.act('admin.remove', { id: boris.id })).json as { id: string }).id;
    expect(await boris.approve(id)).toMatchObject({ status: 200, json: { state: 'failed', reason: 'officers-too-few' } });
    expect(await auditor.act('admin.role', { id: auditor.id, role: 'operator' })).toMatchObject({ status: 403, code: 'role-missing' });
    expect(await roleOf(house, boris.id)).toBe('security-officer');
  });
});

test('whoever asks for challenges without end has fifty of them', async () => {
  const house = await HouseInProcess.open();
  open.push(house);
  const request = { id: 'r', network: '127.0.0.1' };
  const elsewhere = await house.house.signIn.options({ id: 'r', network: '127.0.0.2' });
  for (let n = 0; n < 60; n += 1) await house.house.signIn.options(request);
  const rows = await house.db.all<{ network: string; challenge: Buffer }>('SELECT network, challenge FROM ceremonies');
  expect(rows.filter(({ network }) => network === request.network)).toHaveLength(50);
  expect(rows.map(({ challenge }) => challenge.toString('base64url'))).toContain(elsewhere.challenge);
});

describe('a request that somebody changed in the database', () => {
  const change = (house: HouseInProcess, id: string) =>
    house.db.write((unit) => unit.run(`UPDATE requests SET args = replace(args, 'auditor', 'security-officer') WHERE id = '${id}'`));
  /** Anna asks for something harmless; Boris looks at it, and may sign it before or after the change. */
  async function stage() {
    const { house, anna, boris, operator } = await site();
    const id = ((await house.act('admin.role', { id: operator.id, role: 'auditor' }).catch((error: unknown) => error)) as RequestFiled)
      .request.id;
    expect(await anna.approve(id)).toMatchObject({ status: 200 });
    return { house, boris, operator, id };
  }

  test('is void, with the approvals that it had', async () => {
    const { house, boris, operator, id } = await stage();
    await change(house, id);
    expect(await boris.approve(id)).toMatchObject({ status: 403, code: 'request-changed' });
    await expect(house.act('request.perform', { id })).rejects.toMatchObject({ code: 'request-changed' });
    expect(await roleOf(house, operator.id)).toBe('operator');
  });

  test('guard off, one of two: without the MAC the earlier approval does not hold for the changed request', async () => {
    const { house, boris, operator, id } = await stage();
    await change(house, id);
    const seal = (house.house.approvals as unknown as { parts: { seal: { holds: (table: string) => boolean } } }).parts.seal;
    jest.spyOn(seal, 'holds').mockReturnValue(true);
    expect(await boris.approve(id)).toMatchObject({ status: 200, json: { state: 'open', approvals: [{ administrator: boris.id }] } });
    expect(await roleOf(house, operator.id)).toBe('operator');
    jest.restoreAllMocks();
  });

  test('guards off, both: the changed request is performed, so they are what stops it', async () => {
    const { house, boris, operator, id } = await stage();
    await change(house, id);
    const { seal } = (house.house.approvals as unknown as { parts: { seal: { holds: () => boolean } } }).parts;
    jest.spyOn(seal, 'holds').mockReturnValue(true);
    jest.spyOn(house.house.passkeys, 'holds').mockResolvedValue(true);
    expect(await boris.approve(id)).toMatchObject({ status: 200, json: { state: 'done' } });
    expect(await roleOf(house, operator.id)).toBe('security-officer');
    jest.restoreAllMocks();
  });

  test('guard off: who is the requester is what keeps them from approving', async () => {
    const { house, anna, auditor } = await site();
    const id = await asked(anna, auditor.id, 'operator');
    expect(await anna.approve(id)).toMatchObject({ code: 'requester-approves' });
    // The same request, sealed by this very appliance, under another name.
    const parts = (house.house.approvals as unknown as { parts: { seal: { mac: (table: string, row: object) => Buffer } } }).parts;
    const row = await house.db.one<Record<string, string> & { mac?: unknown }>('SELECT * FROM requests WHERE id = ?', [id]);
    const { mac: _, ...rest } = { ...row, requester_kind: 'operator', requester: 'root' };
    await house.db.write((unit) =>
      unit.run("UPDATE requests SET requester_kind = 'operator', requester = 'root', mac = ? WHERE id = ?", [
        parts.seal.mac('requests', rest),
        id,
      ]),
    );
    await anna.approve(id);
    expect(await roleOf(house, auditor.id)).toBe('operator');
  });
});

describe('a crash', () => {
  /** What the next start finds when the process dies at this point of performing. */
  async function cut(at: 'before the act' | 'after its first unit') {
    const { house, anna, boris, auditor } = await site();
    const id = await asked(anna, auditor.id, 'operator');
    const { administrators } = house.house;
    const real = administrators.setRole.bind(administrators);
    let calls = 0;
    jest.spyOn(administrators, 'setRole').mockImplementation(async (...args) => {
      calls += 1;
      if (calls > 1) return real(...args);
      if (at === 'after its first unit') await real(...args);
      throw new Error('killed'); // no Fault: nobody tells how it ended
    });
    // The row as a dead process leaves it: whoever writes down how the act ended is gone as well.
    const ended = jest.spyOn(house.house.approvals as unknown as { settleOne: () => Promise<void> }, 'settleOne').mockResolvedValue();
    await boris.approve(id);
    ended.mockRestore();
    await new ActDesk(house.house).resume();
    const state = ((await anna.ask('GET', `requests/${id}`)).json as { state: string }).state;
    const done = (await house.log(80)).filter(({ action, outcome }) => action === 'administrator.role' && outcome === 'done').length;
    jest.restoreAllMocks();
    return { state, done };
  }

  test('before the act changed anything: the next start does it', async () => {
    expect(await cut('before the act')).toEqual({ state: 'done', done: 1 });
  });

  test('after its first unit: the next start does not do it again, and says that it was cut', async () => {
    expect(await cut('after its first unit')).toEqual({ state: 'interrupted', done: 1 });
  });
});
