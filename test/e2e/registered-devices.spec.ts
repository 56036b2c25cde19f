import { createPrivateKey, type KeyObject, sign, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { RowSeal } from '../../src/access/index.js';
import { thumbprint } from '../../src/codec/jwk.js';
import { judgeManagedDevice } from '../../src/codec/x509/index.js';
import { readRegistrationList } from '../../src/commands/registration-commands.js';
import { DeviceRevocations, RegisteredDevices, readDeviceAuthorities } from '../../src/devices/index.js';
import { base64url, sha256 } from '../../src/foundation/index.js';
import { TestHouse } from '../client/test-house.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { refusal, type WireReply } from '../support/wire.js';
import {
  begin,
  type DeviceKeys,
  deviceFrom,
  fetchKeys,
  giveAnswer,
  newDeviceKeys,
  postSigned,
  requestBody,
  spkiOf,
} from '../support/wire-device.js';

jest.setTimeout(60_000);
const ANNA = 'anna@corp.example';
const BERT = 'bert@corp.example';

describe('enrolment.device: registered', () => {
  const files = new TestHouse();
  let house: HouseInProcess;
  let keys: DeviceKeys;
  let mailing: NodeJS.Timeout;

  /** A certificate by openssl: of the device management itself, or of a machine by `issuer`. */
  const certify = (name: string, issuer: string | undefined, ...extensions: string[]) => {
    const by = issuer ? ['-CA', `${issuer}.pem`, '-CAkey', `${issuer}.key`] : [];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
    if (name === 'expired') {
      // OpenSSL 3.0's req knows no dates in the past; its ca does.
      files.openssl('req', ...key, '-subj', `/CN=${name}`, '-out', `${name}.csr`);
      writeFileSync(
        files.path('ca.cnf'),
        `[ca]\ndefault_ca=c\n[c]\ndatabase=${files.path('index')}\nserial=${files.path('serial')}\nnew_certs_dir=${files.folder}\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`,
      );
      writeFileSync(files.path('index'), '');
      writeFileSync(files.path('serial'), '0A\n');
      const dates = ['-startdate', '20200101000000Z', '-enddate', '20200201000000Z'];
      files.openssl(
        'ca',
        '-batch',
        '-config',
        'ca.cnf',
        '-cert',
        `${issuer}.pem`,
        '-keyfile',
        `${issuer}.key`,
        '-in',
        `${name}.csr`,
        '-out',
        `${name}.pem`,
        '-notext',
        ...dates,
      );
      return;
    }
    files.openssl(
      'req',
      '-x509',
      ...key,
      '-subj',
      `/CN=${name}`,
      ...by,
      '-days',
      '30',
      '-out',
      `${name}.pem`,
      ...extensions.flatMap((one) => ['-addext', one]),
    );
  };
  /** The revocation list of `issuer`, by openssl, into crl.pem: complete, or with a critical extension of openssl's words. */
  const revokes = (issuer: string, machine: string, { hours = 24, extension }: { hours?: number; extension?: string } = {}) => {
    const { serialNumber } = new X509Certificate(readFileSync(files.path(`${machine}.pem`)));
    writeFileSync(files.path('revoked'), `R\t400101000000Z\t260101000000Z\t${serialNumber}\tunknown\t/CN=${machine}\n`);
    writeFileSync(
      files.path('crl.cnf'),
      `[ca]\ndefault_ca=c\n[c]\ndatabase=${files.path('revoked')}\ndefault_md=sha256\n[x]\n${extension ?? ''}\n`,
    );
    const by = ['-cert', `${issuer}.pem`, '-keyfile', `${issuer}.key`, '-crlhours', `${hours}`, ...(extension ? ['-crlexts', 'x'] : [])];
    files.openssl('ca', '-config', 'crl.cnf', '-gencrl', ...by, '-out', 'crl.new');
    // As whoever renews it should: the file is always there.
    renameSync(files.path('crl.new'), files.path('crl.pem'));
  };
  const leaf = ['basicConstraints=critical,CA:FALSE', 'extendedKeyUsage=clientAuth'];
  const keyOf = (name: string) => createPrivateKey(readFileSync(files.path(`${name}.key`)));
  const rsa = () => {
    files.openssl('genrsa', '-out', 'rsa.key', '2048');
    files.openssl(
      'req',
      '-x509',
      '-key',
      'rsa.key',
      '-subj',
      '/CN=rsa',
      '-CA',
      'mdm.pem',
      '-CAkey',
      'mdm.key',
      '-days',
      '30',
      '-out',
      'rsa.pem',
      ...leaf.flatMap((one) => ['-addext', one]),
    );
  };

  beforeAll(async () => {
    const authority = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
    certify('mdm', undefined, ...authority);
    certify('other', undefined, ...authority);
    certify('machine', 'mdm', ...leaf);
    certify('stranger', 'other', ...leaf);
    certify('expired', 'mdm');
    certify('server', 'mdm', 'basicConstraints=critical,CA:FALSE', 'extendedKeyUsage=serverAuth');
    certify('below', 'mdm', ...authority);
    certify('grandchild', 'below', ...leaf);
    certify('odd', 'mdm', ...leaf, '1.2.3.4=critical,DER:05:00');
    certify('berts', 'mdm', ...leaf, `subjectAltName=email:${BERT}`);
    certify('annas', 'mdm', ...leaf, 'subjectAltName=email:Anna@Corp.Example,URI:ms:device:7');
    certify('lost', 'mdm', ...leaf);
    rsa();
    revokes('mdm', 'expired');
    house = await HouseInProcess.open({
      settings: {
        enrolment: { device: 'registered', deviceAuthoritiesFile: files.path('mdm.pem'), deviceRevocationsFile: files.path('crl.pem') },
        keys: { bits: 2048, pool: { target: 3 } },
        budgets: { challenges: { mailbox: { minute: 1_000 } } },
      },
    });
    keys = await newDeviceKeys();
    writeFileSync(files.path('ca.pem'), house.root);
    writeFileSync(files.path('app.json'), JSON.stringify(await house.house.apps.issue('linux', { kind: 'operator' })));
    for (const address of [ANNA, BERT]) mkdirSync(files.path('mail', address, 'new'), { recursive: true });
    let copied = 0;
    mailing = setInterval(() => {
      for (; copied < house.mail.accepted.length; copied++) {
        const mail = house.mail.accepted[copied];
        if (mail) writeFileSync(join(files.path('mail', mail.to, 'new'), `${copied}`), mail.bytes);
      }
    }, 50);
  });
  afterAll(async () => {
    clearInterval(mailing);
    await house?.close();
    files.remove();
  });
  afterEach(() => {
    jest.restoreAllMocks();
  });

  const enroll = (home: string, address: string, ...more: string[]) =>
    files.mesign(
      home,
      ...['enroll', '--server', `https://localhost:${house.port}`, '--ca', files.path('ca.pem'), '--app', files.path('app.json')],
      ...['--email', address, '--mailbox', `maildir:${files.path('mail', address)}`, ...more],
    );
  const certified = (name: string) => ['--device-certificate', files.path(`${name}.pem`), '--device-key', files.path(`${name}.key`)];
  /** What a request says of its machine, and what the log says of why it was refused. */
  const ask = (address: string, registration?: object, own = keys): Promise<WireReply> =>
    postSigned(house, '/v1/enrolments', { ...requestBody(address, own), ...(registration ? { registration } : {}) });
  const claim = (
    name: string,
    { by = keyOf(name), of = keys, address = ANNA }: { by?: KeyObject; of?: DeviceKeys; address?: string } = {},
  ) => {
    const statement = RegisteredDevices.statement({
      address,
      jkt: thumbprint(spkiOf(of.identity)),
      delivery: base64url(sha256(spkiOf(of.delivery))),
      server: base64url(sha256(new X509Certificate(house.root).raw)),
    });
    const certificate = new X509Certificate(readFileSync(files.path(`${name}.pem`))).raw.toString('base64');
    return { certificate, signature: sign('sha256', statement, by).toString('base64') };
  };
  const lastRule = async () => (await house.log(10)).findLast(({ action }) => action === 'registration.require');

  test('mesign enrols a machine that the list names for this person, one device at a time', async () => {
    expect(await house.act('device.register', { entries: [{ identifier: 'lt-0042', address: 'Anna@Corp.Example' }] })).toEqual({
      added: 1,
    });
    expect(await enroll('anna1', ANNA, '--device-id', 'LT-0042')).toMatchObject({
      status: 0,
      said: expect.stringContaining('is enrolled'),
    });
    const again = await enroll('anna2', ANNA, '--device-id', 'LT-0042');
    expect(again.status).not.toBe(0);
    expect(again.said).toContain('not registered');
    expect(await lastRule()).toMatchObject({
      outcome: 'refused',
      reason: 'device-unregistered',
      facts: { rule: 'in-use' },
      personal: { address: ANNA },
    });
    const [listed] = (await house.act('device.registered', {})) as { identifier: string; device: string }[];
    expect(listed).toMatchObject({ identifier: 'LT-0042', address: ANNA });
    await house.act('device.revoke', { id: listed?.device });
    expect(await enroll('anna2', ANNA, '--device-id', 'lt-0042')).toMatchObject({ status: 0 });
    // Taken from the list together with what came in by it.
    expect(await house.act('device.unregister', { identifier: 'lt-0042', devices: true })).toEqual({ devices: 1 });
    expect((await files.mesign('anna2', 'keys')).status).not.toBe(0);
  });

  test('mesign enrols a machine that the device management certified, with an EC and with an RSA key', async () => {
    expect(await enroll('bert1', BERT, ...certified('machine'))).toMatchObject({ status: 0 });
    expect(await enroll('bert2', BERT, ...certified('rsa'))).toMatchObject({ status: 0 });
    // One device of a person for each machine; another person of the same machine has their own.
    expect((await enroll('bert3', BERT, ...certified('machine'))).status).not.toBe(0);
    expect(await lastRule()).toMatchObject({ facts: { rule: 'in-use' } });
    expect(await enroll('anna3', ANNA, ...certified('machine'))).toMatchObject({ status: 0 });
    expect(await enroll('anna4', ANNA, ...certified('annas'))).toMatchObject({ status: 0 });
    const wrong = await enroll('bert4', BERT, '--device-certificate', files.path('machine.pem'), '--device-key', files.path('rsa.key'));
    expect(wrong.said).toContain('its private key');
  });

  test('whatever is wrong, known and unknown people hear the same; the log has the rule', async () => {
    await house.act('device.register', { entries: [{ identifier: 'berts-laptop', address: BERT }] });
    const thief = await newDeviceKeys();
    const cases: [string, object | undefined][] = [
      ['missing', undefined],
      ['unknown', { identifier: 'nobody-has-this' }],
      ['unknown', { identifier: ' ' }],
      ['other-person', { identifier: 'berts-laptop' }],
      ['foreign', claim('stranger')],
      ['foreign', claim('grandchild')],
      ['foreign', claim('berts')],
      ['expired', claim('expired')],
      ['unfit', claim('below')],
      ['unfit', claim('server')],
      ['unfit', claim('odd')],
      ['unfit', { certificate: Buffer.from('no certificate').toString('base64'), signature: 'AAAA' }],
      ['proof-wrong', claim('machine', { by: keyOf('stranger') })],
      // Another device's own words, and words for another person.
      ['proof-wrong', claim('machine', { of: thief })],
      ['proof-wrong', claim('machine', { address: BERT })],
    ];
    const said = new Set<string>();
    for (const [rule, registration] of cases)
      for (const address of [ANNA, ...(registration === undefined ? ['nobody@corp.example'] : [])]) {
        const reply = await ask(address, registration);
        expect([rule, refusal(reply)]).toEqual([rule, '403 device-unregistered']);
        said.add(reply.body.toString().replace(/"instance":"[^"]*"/, ''));
        expect(await lastRule()).toMatchObject({ outcome: 'refused', facts: { rule } });
      }
    expect(said.size).toBe(1);
    expect(house.defects).toEqual([]);
  });

  test('what its device management has revoked does not come in; nor does any once the list is out of date; guard off: it would', async () => {
    const lost = async () => ask(ANNA, claim('lost'));
    revokes('mdm', 'lost');
    expect(refusal(await lost())).toBe('403 device-unregistered');
    expect(await lastRule()).toMatchObject({ facts: { rule: 'revoked' } });
    // Lists that are not this authority's, or not whole, leave the former one: what it revoked stays so.
    for (const other of [
      () => revokes('other', 'machine'),
      () => revokes('mdm', 'machine', { extension: 'issuingDistributionPoint=critical,@p\n[p]\nonlyuser=TRUE' }),
    ]) {
      other();
      expect(refusal(await lost())).toBe('403 device-unregistered');
      expect(await lastRule()).toMatchObject({ facts: { rule: 'revoked' } });
    }
    revokes('mdm', 'expired');
    const authority = new X509Certificate(readFileSync(files.path('mdm.pem'))).raw;
    const lists = await (await DeviceRevocations.open(files.path('crl.pem'), [authority])).current();
    const machine = new X509Certificate(readFileSync(files.path('machine.pem'))).raw;
    const judged = (hours: number) => judgeManagedDevice(machine, [authority], ANNA, new Date(Date.now() + hours * 3_600_000), lists);
    expect([judged(1), judged(25)]).toEqual([expect.objectContaining({ spki: expect.any(Buffer) }), 'revocation-unknown']);
    await expect(DeviceRevocations.open(files.path('machine.pem'), [authority])).rejects.toMatchObject({
      code: 'device-revocations-malformed',
    });
    revokes('mdm', 'lost');
    // Guard off: without its lists the appliance would take the machine that was reported lost.
    jest.spyOn(DeviceRevocations.prototype, 'current').mockResolvedValue(undefined as never);
    expect((await lost()).status).toBe(201);
  });

  test('a machine that is taken from the list before the answer does not come in; nor does one that another device was quicker with', async () => {
    const entry = { identifier: 'desk-7', address: ANNA };
    const request = async () => {
      const own = await newDeviceKeys();
      return begin(house, ANNA, own, { registration: { identifier: 'desk-7' } });
    };
    await house.act('device.register', { entries: [entry] });
    const [first, second] = [await request(), await request()];
    await house.act('device.unregister', { identifier: 'desk-7' });
    expect(refusal(await giveAnswer(house, first))).toBe('403 device-unregistered');
    expect(await lastRule()).toMatchObject({ facts: { rule: 'unknown' } });
    await house.act('device.register', { entries: [entry] });
    const answers = await Promise.all([giveAnswer(house, first), giveAnswer(house, second)]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 403]);
    const winner = answers[0]?.status === 200 ? deviceFrom(first, answers[0]) : deviceFrom(second, answers[1] as WireReply); // one of two is 200
    expect((await fetchKeys(house, winner)).status).toBe(200);
  });

  test('who writes the database registers nothing; guard off: they would', async () => {
    await house.db.write((unit) =>
      unit.run('INSERT INTO registered_devices (identifier, address, added, mac) VALUES (?, ?, 0, ?)', ['FORGED', ANNA, Buffer.alloc(32)]),
    );
    const forged = () => ask(ANNA, { identifier: 'forged' });
    expect(refusal(await forged())).toBe('403 device-unregistered');
    expect(await lastRule()).toMatchObject({ facts: { rule: 'forged' } });
    expect(await house.act('device.registered', {})).not.toContainEqual(expect.objectContaining({ identifier: 'FORGED' }));
    jest.spyOn(RowSeal.prototype, 'holds').mockReturnValue(true);
    expect((await forged()).status).toBe(201);
    jest.restoreAllMocks();
    // The policy itself is what keeps unregistered machines out.
    jest.spyOn(RegisteredDevices.prototype, 'isAsked', 'get').mockReturnValue(false);
    expect((await ask(ANNA, undefined, await newDeviceKeys())).status).toBe(201);
  });

  test('a list is read whole, or its lines that do not fit are named; the file of authorities holds authorities', () => {
    const list = files.path('list.csv');
    writeFileSync(list, `\uFEFFidentifier,address\r\nLT-1, ${ANNA}\r\n\r\nLT-2,${BERT}\r\n`);
    expect(readRegistrationList(list)).toEqual([
      { identifier: 'LT-1', address: ANNA },
      { identifier: 'LT-2', address: BERT },
    ]);
    writeFileSync(list, `LT-1,${ANNA}\nLT-2\nLT-3,${ANNA},more\n`);
    expect(() => readRegistrationList(list)).toThrow('these are not: 2, 3');
    expect(() => readRegistrationList(files.path('none.csv'))).toThrow('cannot be read');
    for (const file of ['machine.pem', 'machine.key', 'none.pem'])
      expect(() => readDeviceAuthorities(files.path(file))).toThrow(expect.objectContaining({ code: 'device-authorities-malformed' }));
  });
});
