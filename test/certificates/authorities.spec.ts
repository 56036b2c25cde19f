import { execFileSync } from 'node:child_process';
import { createPublicKey, verify, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import type * as guards from '../../src/access/device-guard.js';
import { DeviceGuard } from '../../src/access/device-guard.js';
import { pem } from '../../src/certificates/index.js';
import type { Authority } from '../../src/tokens/index.js';
import type * as wardens from '../../src/tokens/warden.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal } from '../support/wire.js';
import { enrolDevice, fetchKeys, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);

interface Standing {
  id: string;
  state: string;
  inUse: number;
}

/** openssl as the judge: `good`, or in its words why not. */
class Judge {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ekms-ca-'));

  constructor(private readonly house: HouseInProcess) {}

  close(): void {
    rmSync(this.#folder, { recursive: true });
  }

  /** With every list that the leaf's own address names, and that of the root. */
  async verdict(leaf: X509Certificate, chain: readonly X509Certificate[]): Promise<string> {
    const { revocations } = this.house.house;
    const lists = [await revocations.find(listOf(leaf)), await revocations.find('root')];
    const write = (name: string, text: string) => writeFileSync(join(this.#folder, name), text);
    write('root.pem', this.house.root);
    write('chain.pem', chain.map(String).join(''));
    write('leaf.pem', leaf.toString());
    write('lists.pem', lists.map((der) => `-----BEGIN X509 CRL-----\n${der.toString('base64')}\n-----END X509 CRL-----\n`).join(''));
    const words = [
      'verify',
      '-x509_strict',
      '-crl_check_all',
      '-CRLfile',
      'lists.pem',
      '-CAfile',
      'root.pem',
      '-untrusted',
      'chain.pem',
      'leaf.pem',
    ];
    try {
      execFileSync('openssl', words, { cwd: this.#folder, stdio: 'pipe' });
      return 'good';
    } catch (error) {
      return /error \d+ at \d depth lookup: (.+)/.exec(String((error as { stderr: Buffer }).stderr))?.[1] ?? String(error);
    }
  }

  /** What openssl reads in a list. */
  async list(id: string): Promise<string> {
    const der = await this.house.house.revocations.find(id);
    return execFileSync('openssl', ['crl', '-inform', 'DER', '-noout', '-text'], { input: der }).toString();
  }
}

/** By the address that a certificate carries, `people-2` say. */
function listOf(certificate: X509Certificate): string {
  const text = execFileSync('openssl', ['x509', '-noout', '-ext', 'crlDistributionPoints'], { input: certificate.toString() }).toString();
  return /\/crl\/(\S+)\.crl/.exec(text)?.[1] ?? '';
}
const extension = (certificate: X509Certificate, name: string) =>
  execFileSync('openssl', ['x509', '-noout', '-ext', name], { input: certificate.toString() })
    .toString()
    .replace(/^.*?:.*\n\s*/, '')
    .trim();
const read = (pems: readonly string[]) => pems.map((text) => new X509Certificate(text));

describe('an authority is followed by another generation', () => {
  let ekms: HouseInProcess;
  let judge: Judge;
  let anna: WireDevice;
  const standing = async (id: string) => ((await ekms.act('ca.list', {})) as Standing[]).find((each) => each.id === id);
  const generation = (name: string, n: number) =>
    ekms.house.authorities.all.find((each) => each.name === name && each.n === n) as Authority;
  const certificatesOf = async (device: WireDevice) => read((await keysOf(ekms, device))[0]?.certificates ?? []);
  const revoke = async (serial: string) => {
    const { storage, revocations } = ekms.house;
    await storage.write((unit) => revocations.revoke(unit, serial.toLowerCase(), 'superseded', { kind: 'operator' }));
    await revocations.publish('people');
  };

  beforeAll(async () => {
    ekms = await HouseInProcess.open();
    judge = new Judge(ekms);
    await ekms.act('pool.fill', { count: 4 });
    anna = await enrolDevice(ekms, 'anna@corp.example');
  });
  afterAll(async () => {
    judge?.close();
    await ekms?.close();
  });

  test('people: both generations’ certificates verify, each is revoked by its own list, and the keys stay', async () => {
    const [before, first] = await certificatesOf(anna);
    if (!before || !first) throw new Error('no chain');
    expect(await ekms.act('ca.rotate', { name: 'people' })).toEqual({ name: 'people', n: 2 });
    const second = new X509Certificate(generation('people', 2).certificate);
    expect(second.subject).toBe('O=Test\nCN=EKMS People CA 2');
    expect(second.publicKey.equals(first.publicKey)).toBe(false);
    // As limited as the one before, by openssl's reading.
    for (const name of ['nameConstraints', 'extendedKeyUsage', 'keyUsage', 'basicConstraints'])
      expect([name, extension(second, name)]).toEqual([name, extension(first, name)]);
    expect(extension(second, 'authorityKeyIdentifier')).toBe(extension(first, 'authorityKeyIdentifier'));
    expect(await judge.verdict(before, [first])).toBe('good');

    const bela = await enrolDevice(ekms, 'bela@corp.example');
    const [leaf, above] = await certificatesOf(bela);
    if (!leaf || !above) throw new Error('no chain');
    expect(above.raw.equals(second.raw)).toBe(true);
    expect(extension(leaf, 'authorityKeyIdentifier')).toBe(extension(second, 'subjectKeyIdentifier'));
    expect([listOf(before), listOf(leaf)]).toEqual(['people', 'people-2']);
    expect(await judge.verdict(leaf, [above])).toBe('good');
    // What names the one does not count by the list of the other.
    const numbers = await Promise.all(
      ['people', 'people-2'].map(async (name) => /CRL Number: \n\s+(\w+)/.exec(await judge.list(name))?.[1]),
    );
    expect(numbers.map(Number).every((number) => number > 1_700_000_000)).toBe(true);

    await revoke(leaf.serialNumber);
    expect(await judge.verdict(leaf, [above])).toBe('certificate revoked');
    expect(await judge.verdict(before, [first])).toBe('good');
    await revoke(before.serialNumber);
    expect(await judge.verdict(before, [first])).toBe('certificate revoked');
    expect((await judge.list('people')).match(/Serial Number/g)).toHaveLength(1);
    expect((await judge.list('people-2')).match(/Serial Number/g)).toHaveLength(1);
  });

  test('people are given certificates of the new one on their own keys, and may then do without the former', async () => {
    const clara = (await certificatesOf(anna)).length;
    await ekms.house.renewal.run();
    const [leaf, ...more] = await certificatesOf(anna);
    if (!leaf) throw new Error('no chain');
    expect(listOf(leaf)).toBe('people-2');
    expect(more).toHaveLength(clara + 1); // the former leaf, and both authorities
    expect(await judge.verdict(leaf, more)).toBe('good');
    const issued = async () => (await ekms.db.all("SELECT serial FROM certificates WHERE profile = 'person'")).length;
    const before = await issued();
    await ekms.house.renewal.run();
    expect(await issued()).toBe(before);

    expect(await standing('people')).toMatchObject({ state: 'former', inUse: 0 });
    expect(await ekms.act('ca.retire', { id: 'people' })).toEqual({ revoked: 0 });
    expect(await standing('people')).toMatchObject({ state: 'retired' });
    expect(ekms.token.hsm.numbersOf('people')).toEqual([2]);
    // Its last list answers for as long as it could be asked about.
    const list = await judge.list('people');
    const next = new Date(/Next Update: (.+)/.exec(list)?.[1] ?? '');
    const ends = new X509Certificate(generation('people', 1).certificate).validToDate;
    expect(next.getTime()).toBeGreaterThanOrEqual(ends.getTime());
    await expect(ekms.token.issueCrl({ authority: 'people', n: 1, number: 9, entries: [], days: 7 })).rejects.toMatchObject({
      code: 'authority-retired',
    });
    // What it signed tells still until when a key is kept.
    expect((await certificatesOf(anna)).length).toBe(more.length + 1);
  });

  test('what is not to be done is refused by name', async () => {
    const refused = async (act: 'ca.rotate' | 'ca.retire', args: object) => {
      const outcome = ekms.act(act, args);
      return outcome.then(String, (error: { code: string }) => error.code);
    };
    expect(await refused('ca.rotate', { name: 'root' })).toBe('root-fixed');
    expect(await refused('ca.retire', { id: 'root' })).toBe('root-fixed');
    expect(await refused('ca.retire', { id: 'people-2' })).toBe('authority-in-use');
    expect(await refused('ca.retire', { id: 'people-7' })).toBe('authority-unknown');
    expect(await refused('ca.retire', { id: 'people', revoke: true })).toBe('authority-retired');
    await expect(ekms.token.succeedKey('root' as never, 2, { crl: 'x', issuer: 'x' })).rejects.toMatchObject({
      code: 'token-ask-malformed',
    });
  });

  test('devices: those of both are let in until the former is retired; then it is refused at the door and by the token', async () => {
    expect(await ekms.act('ca.rotate', { name: 'devices' })).toEqual({ name: 'devices', n: 2 });
    const bela = await enrolDevice(ekms, 'bela@corp.example');
    expect(bela.certificates).toContain(pem(generation('devices', 2).certificate));
    for (const device of [anna, bela]) expect((await fetchKeys(ekms, device)).status).toBe(200);
    await expect(ekms.act('ca.retire', { id: 'devices' })).rejects.toMatchObject({ code: 'authority-in-use' });

    const evidence = await releaseAsk(ekms, anna);
    const [der = Buffer.alloc(0)] = read([anna.certificates]).map(({ raw }) => raw);
    const { storage, audit, clock } = ekms.house;
    const request = { id: 'r', network: '127.0.0.1' } as never;
    const trust = { find: async () => undefined };
    const admitted = async (Guard: typeof DeviceGuard) =>
      new Guard(trust as never, ekms.house.authorities, { storage, audit }, clock, { require: () => undefined } as never)
        .admit(der, request)
        .then(String, (error: { code: string }) => error.code);
    // Before its end it is only this device that is not known here.
    expect(await admitted(DeviceGuard)).toBe('device-unknown');

    expect(await ekms.act('ca.retire', { id: 'devices', revoke: true })).toMatchObject({ revoked: expect.any(Number) });
    expect(refusal(await fetchKeys(ekms, anna))).toBe('403 device-untrusted');
    expect((await fetchKeys(ekms, bela)).status).toBe(200);
    expect(await admitted(DeviceGuard)).toBe('device-untrusted');
    await ekms.token.unblock(anna.id);
    await expect(ekms.token.release(...evidence)).rejects.toMatchObject({ code: 'device-untrusted' });

    // Guards off: the door that believes every authority there ever was, and the token process that does.
    const doorOff = guardOff<typeof guards>({
      file: 'src/access/device-guard.ts',
      guard: "      await this.authorities.look();\n      return readDeviceCertificate(certificate, this.authorities.trusted('devices'));",
      instead:
        "      return readDeviceCertificate(certificate, (this.authorities as any).of('devices').map((each: any) => each.certificate));",
    });
    expect(await admitted(doorOff.DeviceGuard as never)).toBe('device-unknown');
    const { Warden } = guardOff<typeof wardens>({
      file: 'src/tokens/warden.ts',
      guard: "each.name === name && each.state !== 'retired'",
      instead: 'each.name === name',
    });
    const { authorities } = ekms.house;
    const ask = { key: evidence[0], blob: evidence[1], device: evidence[2] };
    const warden = new Warden(ekms.token.hsm, await ekms.token.certificates(), clock, undefined, 1, authorities.all);
    expect(await warden.run('release', ask)).toMatchObject({ value: { signature: expect.any(String) } });

    // Its certificate is on the list of the root, and openssl refuses what hangs on it.
    const [leaf] = read([anna.certificates]);
    const old = new X509Certificate(generation('devices', 1).certificate);
    if (!leaf) throw new Error('no certificate');
    expect(await judge.verdict(leaf, [old])).toBe('certificate revoked');
    expect(await judge.list('root')).toMatch(new RegExp(`Serial Number: ${old.serialNumber}[\\s\\S]*CA Compromise`));
    // Whoever was ended with it enrols again.
    expect((await fetchKeys(ekms, await enrolDevice(ekms, 'anna@corp.example'))).status).toBe(200);
  });

  test('infrastructure: mail, TLS and deliveries go over to the new one, and the delivery key’s certificate before the former may go', async () => {
    expect(await ekms.act('ca.rotate', { name: 'infrastructure' })).toEqual({ name: 'infrastructure', n: 2 });
    const second = generation('infrastructure', 2).certificate;
    const served = await ekms.house.infrastructure.tlsServer(['localhost']);
    expect(served.authority.equals(second)).toBe(true);
    const { certificate, authority } = await ekms.house.infrastructure.mailSigning('ekms@corp.example');
    expect(authority.equals(second)).toBe(true);
    expect(listOf(new X509Certificate(certificate))).toBe('infrastructure-2');
    // The delivery key's certificate is the former one's still, and so is what is shown above it.
    const bela = await enrolDevice(ekms, 'bela@corp.example');
    const chainOf = async () => {
      await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
      const [header = '', payload = '', signature = ''] = (await keysOf(ekms, bela))[0]?.signature?.split('.') ?? [];
      const { x5c } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { x5c: string[] };
      const [leaf, above] = x5c.map((text) => new X509Certificate(Buffer.from(text, 'base64')));
      if (!leaf || !above) throw new Error('no chain');
      const key = { key: createPublicKey(leaf.toString()), dsaEncoding: 'ieee-p1363' } as const;
      expect(verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'))).toBe(true);
      expect(await judge.verdict(leaf, [above])).toBe('good');
      return listOf(leaf);
    };
    expect(await chainOf()).toBe('infrastructure');
    await expect(ekms.act('ca.retire', { id: 'infrastructure', revoke: true })).rejects.toMatchObject({ code: 'authority-in-use' });
    await ekms.act('token.rotate', { name: 'delivery' });
    expect(await chainOf()).toBe('infrastructure-2');
    await ekms.act('ca.retire', { id: 'infrastructure', revoke: true });
    expect(await standing('infrastructure')).toMatchObject({ state: 'retired', inUse: 0 });
    expect((await fetchKeys(ekms, bela)).status).toBe(200);

    const last = await judge.list('infrastructure');
    const before = await judge.list('infrastructure-2');
    ekms.pass(2 * 86_400_000);
    await ekms.house.revocations.publishDue();
    expect(await judge.list('infrastructure')).toBe(last);
    expect(await judge.list('infrastructure-2')).not.toBe(before);
    expect(ekms.defects).toEqual([]);
  });
});

/** What the token is asked for a key of this device's person. */
async function releaseAsk(ekms: HouseInProcess, device: WireDevice) {
  const { KeyStore } = await import('../../src/keys/index.js');
  const row = await ekms.db.one<{ id: string }>("SELECT id FROM keys WHERE employee = ? AND state = 'active'", [device.employee]);
  const key = await new KeyStore().find(ekms.db, row?.id ?? '');
  if (!key) throw new Error('no key');
  const { sealed, wrapped, publicKey } = key;
  const certificate = new X509Certificate(device.certificates).raw;
  const deliveryKey = createPublicKey(device.keys.delivery).export({ type: 'spki', format: 'der' });
  return [sealed, { wrapped, publicKey }, { certificate, deliveryKey }] as const;
}
