// First: it replaces a module that the others load.
import '../support/named-delivery-key.js';
import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { ActName } from '../../src/commands/acts.js';
import { base64url, newId, type Row, type SqlValue, type Storage, sha256 } from '../../src/foundation/index.js';
import type { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { Appliance, type LogEntry } from '../support/appliance.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { named } from '../support/named-delivery-key.js';
import { openKey } from '../support/open-delivery.js';
import { refusal, type WireReply } from '../support/wire.js';
import {
  answerBody,
  answerPath,
  begin,
  type Door,
  deviceFrom,
  enrolDevice,
  fetchKeys,
  keysOf,
  mailedHalf,
  postSigned,
  spkiOf,
  type WireDevice,
  type WireKey,
} from '../support/wire-device.js';

jest.setTimeout(60_000);

/** Where an attack is played: the real appliance with its token process, or one in this process with a guard taken out. */
interface Stage extends Door {
  db: Pick<Storage, 'all' | 'one' | 'write'>;
  act(name: ActName, args: object): Promise<unknown>;
  log(count?: number): Promise<LogEntry[]>;
}

interface Attack {
  /** What whoever writes the database did. */
  name: string;
  /** How it is refused. */
  code: string;
  guard: Guard;
  /** Resolves with what the appliance said, and whether the attacker has what is not his. */
  play(stage: Stage): Promise<{ said: string; got: boolean }>;
}

type Guard = 'seal' | 'journal' | 'delivery key';
const mallory = generateKeyPairSync('rsa', { modulusLength: 3072 }).privateKey;
const OFF: Record<Guard, (token: MemoryToken) => void> = {
  // Every record has the same MAC: whatever is in the database counts as sealed.
  seal: ({ hsm }) => {
    hsm.mac = () => Buffer.alloc(32);
  },
  // Whatever the token did may leave: nothing outside the database remembers anything of keys, devices and people. The log's heads are another guard.
  journal: (token) => {
    const { journal } = token as unknown as { journal: { admit(claims: { kind: string }[]): Promise<void> } }; // private to others than this test
    const admit = journal.admit.bind(journal);
    journal.admit = (claims) => admit(claims.filter(({ kind }) => kind === 'head'));
  },
  'delivery key': () => {
    named.delivery = sha256(spkiOf(mallory));
  },
};

const run = (stage: Stage, sql: string, ...parameters: SqlValue[]) => stage.db.write((unit) => unit.run(sql, parameters));
const rowOf = async (stage: Stage, table: string, id: string): Promise<Row> => {
  const row = await stage.db.one(`SELECT * FROM ${table} WHERE id = ?`, [id]);
  if (!row) throw new Error(`no such row in ${table}`);
  return row;
};
/** Puts a row back as it was, whatever is there now. */
const putBack = async (stage: Stage, table: string, row: Row): Promise<void> => {
  const names = Object.keys(row).filter((name) => name !== 'id');
  await run(
    stage,
    `UPDATE ${table} SET ${names.map((name) => `${name} = ?`).join(', ')} WHERE id = ?`,
    ...names.map((name) => row[name] ?? null),
    row['id'] ?? null,
  );
};
const insert = (stage: Stage, table: string, row: Row) =>
  run(
    stage,
    `INSERT INTO ${table} (${Object.keys(row).join(', ')}) VALUES (${Object.keys(row)
      .map(() => '?')
      .join(', ')})`,
    ...Object.values(row),
  );
const forgetKept = (stage: Stage, device: WireDevice) => run(stage, 'DELETE FROM deliveries WHERE device = ?', device.id);

/** What the appliance says of one key: the whole call's refusal, the key's own problem, or that it is there. */
function saidOf(reply: WireReply, key: string): string {
  if (reply.status !== 200) return refusal(reply);
  const served = (reply.json as (WireKey & { problem?: string })[]).find(({ id }) => id === key); // docs/formats/delivery.md
  return served?.problem ?? (served?.delivery ? 'delivered' : 'not there');
}

/** Whether this delivery key opens the delivery of that key, and it is the private key of `certificate`. */
function opens(reply: WireReply, key: string, deliveryKey: KeyObject, certificate: string): boolean {
  const served = reply.status === 200 ? (reply.json as WireKey[]).find(({ id }) => id === key) : undefined; // as above
  return !!served?.delivery && createPublicKey(openKey(served.delivery, deliveryKey)).equals(new X509Certificate(certificate).publicKey);
}

let people = 0;
const somebody = (name: string) => `${name}${++people}@corp.example`;
async function person(stage: Stage, name: string): Promise<{ device: WireDevice; key: WireKey; certificate: string }> {
  const device = await enrolDevice(stage, somebody(name));
  const [key] = await keysOf(stage, device);
  if (!key) throw new Error('no key');
  return { device, key, certificate: key.certificates[0] ?? '' };
}

const keyAttacks: Attack[] = [
  {
    name: "alice's wrapped key is put on bob's row",
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const [alice, bob] = [await person(stage, 'alice'), await person(stage, 'bob')];
      const [hers, his] = [await rowOf(stage, 'keys', alice.key.id), await rowOf(stage, 'keys', bob.key.id)];
      const blob = ({ wrapped = null, public_key = null, public_key_digest = null }: Row) => ({ wrapped, public_key, public_key_digest });
      await putBack(stage, 'keys', { ...hers, public_key_digest: Buffer.alloc(32, people) }); // a digest is in the table once
      await putBack(stage, 'keys', { ...his, ...blob(hers) });
      await forgetKept(stage, bob.device);
      const reply = await fetchKeys(stage, bob.device);
      return { said: saidOf(reply, bob.key.id), got: opens(reply, bob.key.id, bob.device.keys.delivery, alice.certificate) };
    },
  },
  {
    name: "alice's whole row is given to bob",
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const [alice, bob] = [await person(stage, 'alice'), await person(stage, 'bob')];
      // One active key per person: hers comes as a former one of his.
      await run(stage, "UPDATE keys SET employee = ?, state = 'deactivated' WHERE id = ?", bob.device.employee, alice.key.id);
      const reply = await fetchKeys(stage, bob.device);
      return { said: saidOf(reply, alice.key.id), got: opens(reply, alice.key.id, bob.device.keys.delivery, alice.certificate) };
    },
  },
  {
    name: "the delivery key of alice's device is replaced by mallory's",
    code: 'delivery-key-foreign',
    guard: 'delivery key',
    play: async (stage) => {
      await stage.act('pool.fill', { count: 1 });
      const device = await enrolDevice(stage, somebody('alice'));
      const spki = spkiOf(mallory);
      await run(stage, 'UPDATE devices SET delivery_key = ?, delivery_digest = ? WHERE id = ?', spki, sha256(spki), device.id);
      const key = await stage.db.one<{ id: string }>('SELECT id FROM keys WHERE employee = ?', [device.employee]);
      const certificate = await stage.db.one<{ der: Buffer }>("SELECT der FROM certificates WHERE employee = ? AND profile = 'person'", [
        device.employee,
      ]);
      const reply = await fetchKeys(stage, device);
      const pem = new X509Certificate(certificate?.der ?? Buffer.alloc(0)).toString();
      return { said: saidOf(reply, key?.id ?? ''), got: opens(reply, key?.id ?? '', mallory, pem) };
    },
  },
  {
    name: 'the mode of a key that stays in the token is made deliver',
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const { device } = await person(stage, 'alice');
      await stage.act('pool.fill', { count: 1 });
      await stage.act('employee.mode', { address: device.address, mode: 'remote' });
      const key = (await keysOf(stage, device)).find(({ mode }) => mode === 'remote');
      if (!key) throw new Error('no remote key');
      await run(stage, "UPDATE keys SET mode = 'deliver' WHERE id = ?", key.id);
      const reply = await fetchKeys(stage, device);
      return { said: saidOf(reply, key.id), got: opens(reply, key.id, device.keys.delivery, key.certificates[0] ?? '') };
    },
  },
  {
    name: 'the state of a suspended key is made active',
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const { device, key, certificate } = await person(stage, 'alice');
      await stage.act('key.change', { id: key.id, state: 'suspended' });
      await run(stage, "UPDATE keys SET state = 'active' WHERE id = ?", key.id);
      const reply = await fetchKeys(stage, device);
      return { said: saidOf(reply, key.id), got: opens(reply, key.id, device.keys.delivery, certificate) };
    },
  },
  {
    name: 'the row of a suspended key is put back from an older database',
    code: 'record-stale',
    guard: 'journal',
    play: async (stage) => {
      const { device, key, certificate } = await person(stage, 'alice');
      const before = await rowOf(stage, 'keys', key.id);
      await stage.act('key.change', { id: key.id, state: 'suspended' });
      expect(saidOf(await fetchKeys(stage, device), key.id)).toBe('not there');
      await putBack(stage, 'keys', before);
      const reply = await fetchKeys(stage, device);
      return { said: saidOf(reply, key.id), got: opens(reply, key.id, device.keys.delivery, certificate) };
    },
  },
];

const accessAttacks: Attack[] = [
  {
    name: "a revoked device's row is put back from an older database",
    code: 'device-blocked',
    guard: 'journal',
    play: async (stage) => {
      const { device, key, certificate } = await person(stage, 'alice');
      const before = await rowOf(stage, 'devices', device.id);
      await stage.act('device.revoke', { id: device.id });
      await putBack(stage, 'devices', before);
      const reply = await fetchKeys(stage, device);
      return { said: saidOf(reply, key.id), got: opens(reply, key.id, device.keys.delivery, certificate) };
    },
  },
  {
    name: "a leaver's row is put back from an older database",
    code: 'employee-blocked',
    guard: 'journal',
    play: async (stage) => {
      const { device, key, certificate } = await person(stage, 'alice');
      await stage.act('employee.stop', { address: device.address });
      await run(stage, "UPDATE employees SET state = 'active' WHERE id = ?", device.employee);
      await forgetKept(stage, device);
      const reply = await fetchKeys(stage, device);
      return { said: saidOf(reply, key.id), got: opens(reply, key.id, device.keys.delivery, certificate) };
    },
  },
  {
    name: "mallory's address is bound to alice",
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const [alice, evil] = [await person(stage, 'alice'), await enrolDevice(stage, somebody('mallory'))];
      await run(stage, 'UPDATE bindings SET employee = ? WHERE address = ?', alice.device.employee, evil.address);
      return enrolAs(stage, evil.address, alice);
    },
  },
  {
    name: 'an address that nobody has is bound to alice by hand, with the seal of another row',
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const alice = await person(stage, 'alice');
      const address = somebody('mallory');
      const hers = await stage.db.one('SELECT * FROM bindings WHERE address = ?', [alice.device.address]);
      await insert(stage, 'bindings', { ...hers, id: newId(), address, shown: address });
      return enrolAs(stage, address, alice);
    },
  },
  {
    name: 'an ended binding is put back from an older database, for the next owner of the address',
    code: 'record-stale',
    guard: 'journal',
    play: async (stage) => {
      const alice = await person(stage, 'alice');
      const { id } = (await stage.db.one<{ id: string }>('SELECT id FROM bindings WHERE address = ?', [alice.device.address])) ?? {
        id: '',
      };
      const before = await rowOf(stage, 'bindings', id);
      await stage.act('binding.end', { address: alice.device.address });
      await putBack(stage, 'bindings', before);
      return enrolAs(stage, alice.device.address, alice);
    },
  },
  {
    name: "mallory's enrolment is made one of alice's address",
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const alice = await person(stage, 'alice');
      const begun = await begin(stage, somebody('mallory'));
      const body = answerBody(stage, { ...begun, address: alice.device.address }, await mailedHalf(stage, begun));
      const { address } = alice.device;
      await run(
        stage,
        'UPDATE enrolments SET address = ?, shown = ?, answer = ? WHERE id = ?',
        address,
        address,
        base64url(sha256(body.answer)),
        begun.id,
      );
      return answered(stage, begun, body, alice);
    },
  },
  {
    name: "an enrolment of alice's address is written by hand, with the seal of another row",
    code: 'record-forged',
    guard: 'seal',
    play: async (stage) => {
      const alice = await person(stage, 'alice');
      const mine = await begin(stage, somebody('mallory'));
      const begun = { ...mine, id: newId(), address: alice.device.address };
      const body = answerBody(stage, begun, 'A'.repeat(22));
      const row = await rowOf(stage, 'enrolments', mine.id);
      await insert(stage, 'enrolments', {
        ...row,
        id: begun.id,
        address: begun.address,
        shown: begun.address,
        answer: base64url(sha256(body.answer)),
      });
      return answered(stage, begun, body, alice);
    },
  },
  {
    name: 'a finished enrolment is opened again by an older database, to make one more device',
    code: 'enrolment-spent',
    guard: 'journal',
    play: async (stage) => {
      const begun = await begin(stage, somebody('alice'));
      const before = await rowOf(stage, 'enrolments', begun.id);
      const body = answerBody(stage, begun, await mailedHalf(stage, begun));
      const first = deviceFrom(begun, await postSigned(stage, answerPath(begun.id), body));
      await putBack(stage, 'enrolments', before);
      await forgetKept(stage, first);
      await run(stage, 'DELETE FROM devices WHERE id = ?', first.id);
      const reply = await postSigned(stage, answerPath(begun.id), body);
      return { said: refusal(reply), got: reply.status === 200 && deviceFrom(begun, reply).id !== first.id };
    },
  },
  {
    name: 'a pair that alice has got is in the pool again after a restore, for bob',
    code: 'pair-spent',
    guard: 'journal',
    play: async (stage) => {
      await stage.act('pool.fill', { count: 1 });
      const [pair] = await stage.db.all('SELECT * FROM pool ORDER BY n LIMIT 1');
      const alice = await person(stage, 'alice');
      // The older database knows nothing of her key.
      await forgetKept(stage, alice.device);
      await run(stage, 'DELETE FROM keys WHERE id = ?', alice.key.id);
      await insert(stage, 'pool', pair ?? {});
      const bob = await person(stage, 'bob');
      const spki = (pem: string) => new X509Certificate(pem).publicKey;
      const destroyed = (await stage.log()).findLast(({ action }) => action === 'pool.destroy');
      return { said: destroyed?.reason ?? 'nothing destroyed', got: spki(bob.certificate).equals(spki(alice.certificate)) };
    },
  },
];

/** Whoever reads this address's mailbox enrols; got: alice's key. */
async function enrolAs(stage: Stage, address: string, alice: { device: WireDevice; key: WireKey; certificate: string }) {
  const begun = await begin(stage, address);
  return answered(stage, begun, answerBody(stage, begun, await mailedHalf(stage, begun)), alice);
}

async function answered(
  stage: Stage,
  begun: Awaited<ReturnType<typeof begin>>,
  body: object,
  alice: { key: WireKey; certificate: string },
) {
  const reply = await postSigned(stage, answerPath(begun.id), body);
  if (reply.status !== 200) return { said: refusal(reply), got: false };
  const device = deviceFrom(begun, reply);
  return { said: 'enrolled', got: opens(await fetchKeys(stage, device), alice.key.id, device.keys.delivery, alice.certificate) };
}

const ATTACKS = [...keyAttacks, ...accessAttacks];

describe('whoever writes the database gets nothing', () => {
  let ekms: Appliance;
  beforeAll(async () => {
    ekms = await Appliance.open();
  });
  afterAll(() => ekms?.close());

  test.each(ATTACKS)('$name: $code', async ({ code, play }) => {
    const before = Number((await ekms.log(1))[0]?.index);
    const { said, got } = await play(ekms);
    expect({ said, got }).toEqual({ said: expect.stringContaining(code), got: false });
    const entries = (await ekms.log(100)).filter(({ index }) => Number(index) > before);
    // A pair that was given out before is destroyed, and bob gets the next: there is nobody to refuse.
    const logged = code === 'pair-spent' ? { action: 'pool.destroy', outcome: 'done', reason: code } : { outcome: 'refused', reason: code };
    expect(entries).toContainEqual(expect.objectContaining(logged));
    expect(ekms.said).not.toContain('defect');
  });
});

describe.each<Guard>(['seal', 'journal', 'delivery key'])(
  'with the guard off (%s), the same is a success: the test above is real',
  (guard) => {
    let house: HouseInProcess;
    beforeAll(async () => {
      house = await HouseInProcess.open({ token: OFF[guard], settings: { keys: { bits: 2048, pool: { target: 3 } } } });
    });
    afterAll(async () => {
      delete named.delivery;
      await house?.close();
    });

    test.each(ATTACKS.filter((attack) => attack.guard === guard))('$name', async ({ play }) => {
      expect(await play(house)).toEqual({ said: expect.anything(), got: true });
    });
  },
);
