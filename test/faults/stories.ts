import type { KeyObject } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { acceptKey } from '../../client/src/keys/index.js';
import { readCertificate } from '../../client/src/x509/index.js';
import type { ActName } from '../../src/commands/acts.js';
import { askAppliance } from '../../src/commands/ask-appliance.js';
import { base64url, isFault, sha256 } from '../../src/foundation/index.js';
import { refusal } from '../support/wire.js';
import {
  type Begun,
  begin,
  type DeviceKeys,
  type Door,
  deviceFrom,
  fetchKeys,
  giveAnswer,
  keysOf,
  spkiOf,
  type WireDevice,
  type WireKey,
} from '../support/wire-device.js';

/** An appliance that people and an operator work with. */
export interface Site {
  door: Door;
  home: string;
}

/** What devices have been told, and hold the appliance to afterwards. */
export class Memory {
  /** Every half of a challenge, and every private key that was handed out. */
  readonly secrets = { halves: new Set<string>(), keys: new Map<string, KeyObject>() };
  readonly receipts: { index: number; leaf: string }[] = [];
  /** Digest of the public key, by key id. */
  readonly publicKeys = new Map<string, string>();
  acknowledged = 0;
}

/** docs/formats/enrolment.md §2: the mail of this very enrolment, or one that was alive already. */
function untriedHalf(mail: string, { id, expiresAt }: Begun, tried: ReadonlySet<string>): string | undefined {
  if (!mail.includes(`EKMS-Enrolment: ${id}`) && !mail.includes(`EKMS-Expires: ${expiresAt}`)) return undefined;
  const half = /^Subject: ACME: ([A-Za-z0-9_-]{22})\r?$/m.exec(mail)?.[1];
  return half !== undefined && tried.has(half) ? undefined : half;
}

/** Not a fault of the appliance: it was away, or said that it cannot now. */
export class Away extends Error {}
/** A promise that was broken. */
export class Broken extends Error {}

const AWAY = /ECONNRESET|ECONNREFUSED|EPIPE|socket hang up|socket disconnected|ENOENT|: 503 /;

/** Runs what may be cut off. Resolves with undefined when it was: nothing has been promised then. */
export async function unlessAway<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Away || AWAY.test(String((error as Error).message)) || AWAY.test(String((error as { code?: string }).code)))
      return undefined;
    throw error;
  }
}

/** Whether this was done and said to be, before the appliance went away. */
const acknowledged = (act: () => Promise<unknown>): Promise<boolean> =>
  unlessAway(async () => {
    await act();
    return true;
  }).then((done) => done ?? false);

/** What the operator has done, by the control socket. Codes in `fine` mean that it had been done already. */
export async function operate(site: Site, name: ActName, args: object, fine: string[] = []): Promise<unknown> {
  try {
    const answer = await askAppliance(site.home, name, args);
    if (!answer) throw new Away('nobody is at the control socket');
    return answer.value;
  } catch (error) {
    if (isFault(error) && fine.includes(error.code)) return undefined;
    if (isFault(error) && /unavailable|busy/.test(error.code)) throw new Away(error.code);
    if (isFault(error, 'answer-lost') || isFault(error, 'body-malformed')) throw new Away('the answer was cut off');
    throw error;
  }
}

/** One person with devices; every key that any of them ever got is remembered here. */
export class Person {
  readonly address: string;
  readonly devices: WireDevice[] = [];
  readonly keys = new Set<string>();
  readonly #memory: Memory;

  constructor(address: string, memory: Memory) {
    this.address = address;
    this.#memory = memory;
  }

  /** A copy for another run, on a copy of the home. */
  for(memory: Memory): Person {
    const copy = new Person(this.address, memory);
    copy.devices.push(...this.devices);
    for (const key of this.keys) copy.keys.add(key);
    return copy;
  }

  async ask(site: Site, keys: DeviceKeys): Promise<Begun> {
    const begun = await begin(site.door, this.address, keys);
    this.#memory.secrets.halves.add(begun.half2);
    return begun;
  }

  /** Answers what was begun, trying every mail that may serve it as a client does; the refusal when the appliance does not take it. */
  async answer(site: Site, begun: Begun): Promise<WireDevice | string> {
    for (const tried = new Set<string>(); ; ) {
      const half = await site.door.mailed(this.address, (mail) => untriedHalf(mail, begun, tried));
      tried.add(half);
      this.#memory.secrets.halves.add(half);
      const reply = await giveAnswer(site.door, begun, half);
      if (reply.status === 503) throw new Away(refusal(reply));
      if (reply.status >= 500) throw new Broken(`the answer of ${this.address}: ${refusal(reply)}`);
      if (refusal(reply) === '403 answer-wrong') continue;
      if (reply.status !== 200) return refusal(reply);
      const device = deviceFrom(begun, reply);
      this.devices.push(device);
      this.#memory.acknowledged += 1;
      return device;
    }
  }

  /** Fetches all keys, takes each as a device does, and holds it against what was handed out before. */
  async look(site: Site, device: WireDevice): Promise<WireKey[]> {
    const root = readCertificate(site.door.root);
    const served = await keysOf(site.door, device);
    for (const key of served) {
      if (key.state === 'pending') throw new Broken(`${this.address}: its key is pending for 20 s`);
      const held = acceptKey(
        { ...key, suite: 'rsa' } as Parameters<typeof acceptKey>[0],
        { device: device.id, addresses: [this.address], root, deliveryKey: device.keys.delivery },
        new Date(),
      ); // as served by this version
      if (!held.privateKey) throw new Broken(`${this.address}: key ${key.id} came without its private half`);
      const digest = base64url(sha256(spkiOf(held.privateKey)));
      const before = this.#memory.publicKeys.get(key.id);
      if (before !== undefined && before !== digest) throw new Broken(`${this.address}: key ${key.id} is another one than before`);
      this.#memory.publicKeys.set(key.id, digest);
      this.#memory.secrets.keys.set(key.id, held.privateKey);
      if (key.receipt) this.#memory.receipts.push(key.receipt);
      else throw new Broken(`${this.address}: key ${key.id} came without a receipt`);
      this.#memory.acknowledged += 1;
    }
    const missing = [...this.keys].filter((id) => !served.some((key) => key.id === id));
    if (missing.length > 0) throw new Broken(`${this.address}: device ${device.id} got key ${missing.join(', ')} before and does not now`);
    for (const { id } of served) this.keys.add(id);
    return served;
  }

  /** All devices work, and all see the same keys, one of them active. */
  async settled(site: Site, devices = this.devices): Promise<void> {
    const seen: string[] = [];
    for (const device of devices) {
      const keys = await this.look(site, device);
      const active = keys.filter(({ state }) => state === 'active').length;
      if (active !== 1) throw new Broken(`${this.address} has ${active} active keys`);
      seen.push(
        keys
          .map(({ id, state }) => `${id} ${state}`)
          .toSorted()
          .join(),
      );
    }
    if (new Set(seen).size > 1) throw new Broken(`${this.address}: the devices see different keys: ${seen.join(' | ')}`);
  }
}

/** What somebody does while the appliance dies, and what must hold once it is back. */
export abstract class Story {
  abstract readonly title: string;
  abstract during(site: Site): Promise<void>;
  /** Does again what was not acknowledged, then looks. */
  abstract after(site: Site): Promise<void>;
}

/** `keys.length` devices of one person at the same time. */
export class Enrolment extends Story {
  readonly title: string;
  readonly #person: Person;
  readonly #open: { keys: DeviceKeys; begun?: Begun; device?: WireDevice }[];
  readonly #spare: () => DeviceKeys;

  constructor(person: Person, keys: DeviceKeys[], spare: () => DeviceKeys) {
    super();
    this.title = `${person.address} enrols ${keys.length} device(s)`;
    this.#person = person;
    this.#open = keys.map((one) => ({ keys: one }));
    this.#spare = spare;
  }

  override async during(site: Site): Promise<void> {
    await Promise.all(
      this.#open.map((one) =>
        unlessAway(async () => {
          one.begun = await this.#person.ask(site, one.keys);
          const device = await this.#person.answer(site, one.begun);
          if (typeof device === 'string') throw new Broken(`${this.#person.address}: a right answer was refused: ${device}`);
          one.device = device;
          await this.#person.look(site, device);
        }),
      ),
    );
  }

  override async after(site: Site): Promise<void> {
    for (const one of this.#open) {
      if (one.device) continue;
      // A client that is restarted gives its answer again; what was finished, or undone after signing, is said to be spent.
      const again = one.begun && (await this.#again(site, one.begun));
      if (again) continue;
      const begun = await this.#person.ask(site, this.#spare());
      const device = await this.#person.answer(site, begun);
      if (typeof device === 'string') throw new Broken(`${this.#person.address}: a new enrolment was refused: ${device}`);
    }
    await this.#person.settled(site);
  }

  /** Whether the answer given anew made the device. */
  async #again(site: Site, begun: Begun): Promise<boolean> {
    const arrived = site.door.mailed(this.#person.address, (mail) => untriedHalf(mail, begun, new Set()));
    if (!(await Promise.race([arrived.catch(() => undefined), sleep(500)]))) return false; // its mail was lost with the crash
    const answered = await this.#person.answer(site, begun);
    if (typeof answered !== 'string') return true;
    if (answered !== '409 enrolment-spent') throw new Broken(`${this.#person.address}: the same answer given again: ${answered}`);
    return false;
  }
}

/** A device asks again and again. */
export class Retrieval extends Story {
  readonly title: string;
  readonly #person: Person;
  readonly #times: number;

  constructor(person: Person, times: number) {
    super();
    this.title = `${person.address} fetches keys`;
    this.#person = person;
    this.#times = times;
  }

  override async during(site: Site): Promise<void> {
    for (let time = 0; time < this.#times; time++)
      for (const device of this.#person.devices) await unlessAway(() => this.#person.look(site, device));
  }

  override async after(site: Site): Promise<void> {
    await this.#person.settled(site);
  }
}

/** A device is revoked; the person's other one goes on. */
export class Revocation extends Story {
  readonly title: string;
  readonly #person: Person;

  constructor(person: Person) {
    super();
    this.title = `a device of ${person.address} is revoked`;
    this.#person = person;
  }

  override async during(site: Site): Promise<void> {
    const [revoked] = this.#person.devices;
    const done = await acknowledged(() => operate(site, 'device.revoke', { id: revoked?.id }));
    if (done) await unlessAway(() => this.#refused(site));
  }

  override async after(site: Site): Promise<void> {
    const [revoked, ...others] = this.#person.devices;
    await operate(site, 'device.revoke', { id: revoked?.id }, ['device-ended']);
    await this.#refused(site);
    await this.#person.settled(site, others);
  }

  async #refused(site: Site): Promise<void> {
    const [revoked] = this.#person.devices;
    if (!revoked) throw new Error('nothing to revoke');
    const reply = await fetchKeys(site.door, revoked);
    if (reply.status === 503) throw new Away('503');
    if (refusal(reply) !== '403 device-blocked') throw new Broken(`the revoked device of ${this.#person.address} got ${refusal(reply)}`);
  }
}

/** A leaver who comes back. */
export class Leave extends Story {
  readonly title: string;
  readonly #person: Person;

  constructor(person: Person) {
    super();
    this.title = `${person.address} leaves`;
    this.#person = person;
  }

  override async during(site: Site): Promise<void> {
    const done = await acknowledged(() => operate(site, 'employee.stop', { address: this.#person.address }));
    if (done) await unlessAway(() => this.#refused(site));
  }

  override async after(site: Site): Promise<void> {
    await operate(site, 'employee.stop', { address: this.#person.address });
    await this.#refused(site);
    await operate(site, 'employee.resume', { address: this.#person.address });
    await this.#person.settled(site);
  }

  async #refused(site: Site): Promise<void> {
    for (const device of this.#person.devices) {
      const reply = await fetchKeys(site.door, device);
      if (reply.status === 503) throw new Away('503');
      if (refusal(reply) !== '403 employee-blocked') throw new Broken(`the leaver ${this.#person.address} got ${refusal(reply)}`);
    }
  }
}

/** A key is replaced because it is compromised: the old one stays for reading. */
export class Replacement extends Story {
  readonly title: string;
  readonly #person: Person;
  #acknowledged = false;

  constructor(person: Person) {
    super();
    this.title = `the key of ${person.address} is replaced`;
    this.#person = person;
  }

  override async during(site: Site): Promise<void> {
    this.#acknowledged = await acknowledged(() => operate(site, 'key.replace', { address: this.#person.address, because: 'compromised' }));
    for (const device of this.#person.devices) await unlessAway(() => this.#person.look(site, device));
  }

  override async after(site: Site): Promise<void> {
    await this.#person.settled(site);
    const [device] = this.#person.devices;
    const keys = device ? await this.#person.look(site, device) : [];
    if (this.#acknowledged && !keys.some(({ state }) => state === 'compromised'))
      throw new Broken(`the replaced key of ${this.#person.address} is not marked`);
    if (keys.length > 2) throw new Broken(`${this.#person.address} has ${keys.length} keys after one replacement`);
  }
}

/** An address goes to somebody else: the new owner gets nothing of the old one's, who keeps what was theirs. */
export class Reassignment extends Story {
  readonly title: string;
  readonly #old: Person;
  readonly #new: Person;
  readonly #keys: () => DeviceKeys;

  constructor(old: Person, next: Person, keys: () => DeviceKeys) {
    super();
    this.title = `the address ${old.address} changes hands`;
    this.#old = old;
    this.#new = next;
    this.#keys = keys;
  }

  override async during(site: Site): Promise<void> {
    await unlessAway(() => operate(site, 'binding.end', { address: this.#old.address }));
  }

  override async after(site: Site): Promise<void> {
    await operate(site, 'binding.end', { address: this.#old.address }, ['binding-unknown']);
    const begun = await this.#new.ask(site, this.#keys());
    const device = await this.#new.answer(site, begun);
    if (typeof device === 'string') throw new Broken(`the new owner of ${this.#new.address} was refused: ${device}`);
    if (this.#old.devices.some(({ employee }) => employee === device.employee))
      throw new Broken(`the new owner of ${this.#new.address} is taken for the old one`);
    await this.#new.settled(site);
    if ([...this.#new.keys].some((id) => this.#old.keys.has(id)))
      throw new Broken(`the new owner of ${this.#new.address} got a key of the old one`);
    await this.#old.settled(site);
  }
}
