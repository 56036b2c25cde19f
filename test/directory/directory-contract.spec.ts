import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { parseConfiguration } from '../../src/configuration/index.js';
import { CsvDirectory, type Directory, LdapDirectory, type LdapSettings, MemoryDirectory } from '../../src/directory/index.js';
import { parseAddress } from '../../src/foundation/index.js';
import { PEOPLE, Slapd } from '../support/slapd.js';

jest.setTimeout(60_000);

const ANNA = parseAddress('anna@corp.example');
const BOB = parseAddress('bob@corp.example');

/** The settings that ekms.yaml makes, as the house hands them on. */
function ldap(slapd: Slapd, more: object = {}): LdapDirectory {
  const { directory } = parseConfiguration(JSON.stringify({ directory: slapd.settings(more) }), slapd.folder);
  return new LdapDirectory(directory as LdapSettings); // what `url` makes
}

let slapd: Slapd;
beforeAll(async () => {
  slapd = await Slapd.open();
  slapd.person('anna', 'Anna@Corp.Example', 'mail: a.meier@corp.example\naccountStatus: active\n');
  slapd.person('bob', 'bob@corp.example', 'accountStatus: locked\n');
});
afterAll(() => slapd?.close());

/** Anna is active and has two addresses; bob's account is disabled; both have passwords where the source has any. */
const SOURCES: Record<string, () => { directory: Directory; passwords: boolean }> = {
  memory: () => {
    const directory = new MemoryDirectory();
    directory.put({ id: 'a', addresses: ['Anna@Corp.Example', 'a.meier@corp.example'], active: true });
    directory.put({ id: 'b', addresses: ['bob@corp.example'], active: false });
    directory.passwords.set('a', 'anna-secret').set('b', 'bob-secret');
    return { directory, passwords: true };
  },
  csv: () => {
    const file = slapd.file('people.csv');
    writeFileSync(file, 'id,addresses,state\r\na,Anna@Corp.Example a.meier@corp.example,active\r\nb,"bob@corp.example",disabled\r\n');
    return { directory: new CsvDirectory(file), passwords: false };
  },
  ldaps: () => ({ directory: ldap(slapd, { attributes: { state: { attribute: 'accountStatus', active: ['active'] } } }), passwords: true }),
};

describe.each(Object.keys(SOURCES))('a directory (%s)', (name) => {
  const open = () => SOURCES[name]?.() as { directory: Directory; passwords: boolean }; // it is one of its keys

  test('tells everybody, with every address and whether they are active', async () => {
    const people = await open().directory.people();
    const told = people.map(({ addresses, active }) => ({ addresses: addresses.map((text) => text.toLowerCase()).sort(), active }));
    expect(told.sort((a, b) => Number(b.active) - Number(a.active))).toEqual([
      { addresses: ['a.meier@corp.example', 'anna@corp.example'], active: true },
      { addresses: ['bob@corp.example'], active: false },
    ]);
    expect(new Set(people.map(({ id }) => id)).size).toBe(2);
  });

  test('finds one by id and by any address, whatever the case, and nobody by what is not there', async () => {
    const { directory } = open();
    const [anna] = await directory.byAddress(ANNA);
    expect(anna?.active).toBe(true);
    expect(await directory.byId(anna?.id ?? '')).toEqual(anna);
    expect((await directory.byAddress(parseAddress('A.Meier@corp.example')))[0]?.id).toBe(anna?.id);
    expect(await directory.byAddress(parseAddress('nobody@corp.example'))).toEqual([]);
    expect(await directory.byId('00000000-0000-4000-8000-000000000000')).toBeUndefined();
  });

  test('takes nothing in an address for a pattern', async () => {
    const { directory } = open();
    expect(await directory.byAddress(parseAddress('*@corp.example'))).toEqual([]);
    expect(await directory.signIn(parseAddress('*@corp.example'), 'anna-secret')).toBeUndefined();
  });

  test('signs in an active person by their own password alone', async () => {
    const { directory, passwords } = open();
    const signedIn = await directory.signIn(ANNA, 'anna-secret');
    expect(signedIn?.id).toBe(passwords ? (await directory.byAddress(ANNA))[0]?.id : undefined);
    for (const wrong of ['', 'bob-secret', 'anna-secret ']) expect(await directory.signIn(ANNA, wrong)).toBeUndefined();
    expect(await directory.signIn(BOB, 'bob-secret')).toBeUndefined();
    expect(await directory.signIn(parseAddress('nobody@corp.example'), 'anna-secret')).toBeUndefined();
  });
});

describe('LDAP', () => {
  test('entryUUID and its time are those that ldapsearch shows', async () => {
    const directory = ldap(slapd);
    const [anna] = await directory.byAddress(ANNA);
    expect(anna?.id).toBe(slapd.idOf(`uid=anna,${PEOPLE}`));
    expect(Math.abs((anna?.created ?? 0) - Date.now())).toBeLessThan(10 * 60_000);
  });

  test('over StartTLS as over ldaps; without TLS, or with another authority, nothing is asked', async () => {
    expect(await ldap(slapd, { url: slapd.plainUrl }).people()).toHaveLength(2);
    const other = slapd.file('other.pem');
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-keyout',
        '/dev/null',
        '-out',
        other,
        '-subj',
        '/CN=localhost',
      ],
      { stdio: 'pipe' },
    );
    await expect(ldap(slapd, { caFile: other }).people()).rejects.toMatchObject({ kind: 'unavailable', code: 'directory-unavailable' });
    await expect(ldap(slapd, { caFile: other, url: slapd.plainUrl }).people()).rejects.toMatchObject({ code: 'directory-unavailable' });
    expect(() =>
      parseConfiguration(JSON.stringify({ directory: slapd.settings({ url: 'ldap://dc.corp.example', startTls: false }) }), '/x'),
    ).toThrow(/startTls: passwords do not go over a connection without TLS/);
  });

  test('more people than the server gives in one answer come page by page', async () => {
    const many = await Slapd.open();
    try {
      const ldif = Array.from(
        { length: 1_203 },
        (_, n) => `dn: uid=p${n},${PEOPLE}\nobjectClass: inetOrgPerson\nuid: p${n}\ncn: p\nsn: p\nmail: p${n}@corp.example\n`,
      );
      many.add(ldif.join('\n'));
      const people = await ldap(many).people();
      expect(new Set(people.map(({ id }) => id)).size).toBe(1_203);
    } finally {
      await many.close();
    }
  });

  test('a group decides who is a person, where the filter says so', async () => {
    const group = `cn=mail,${slapd.suffix}`;
    slapd.add(`dn: ${group}\nobjectClass: groupOfNames\ncn: mail\nmember: uid=bob,${PEOPLE}\n`);
    const people = await ldap(slapd, { filter: `(&(objectClass=inetOrgPerson)(memberOf=${group}))` }).people();
    expect(people.map(({ addresses }) => addresses[0])).toEqual(['bob@corp.example']);
  });

  test('as Active Directory: objectGUID in its own spelling, proxyAddresses, and the disabled bit of userAccountControl', async () => {
    // MS-DTYP 2.3.4.2: these bytes are 00112233-4455-6677-8899-aabbccddeeff in text.
    const guid = Buffer.from('33221100554477668899aabbccddeeff', 'hex').toString('base64');
    const more =
      'proxyAddresses: smtp:carla.old@corp.example\nproxyAddresses: SMTP:carla@corp.example\nproxyAddresses: sip:carla@corp.example\n';
    slapd.person('carla', 'carla@corp.example', `objectGUID:: ${guid}\nuserAccountControl: 66048\n${more}`);
    slapd.person('dan', 'dan@corp.example', `objectGUID:: ${Buffer.alloc(16, 7).toString('base64')}\nuserAccountControl: 66050\n`);
    const directory = ldap(slapd, { kind: 'active-directory', filter: '(objectGUID=*)' });
    const carla = { id: '00112233-4455-6677-8899-aabbccddeeff', active: true };
    expect(await directory.byId(carla.id)).toMatchObject(carla);
    const [found] = await directory.byAddress(parseAddress('carla.old@corp.example'));
    expect(found).toMatchObject(carla);
    expect(found?.addresses).toEqual(['carla@corp.example', 'carla@corp.example', 'carla.old@corp.example']);
    expect((await directory.byAddress(parseAddress('dan@corp.example')))[0]?.active).toBe(false);
  });

  test('a directory that is away, silent, or does not let us in is told apart and never taken for an empty one', async () => {
    await expect(ldap(slapd, { bindDn: 'cn=nobody,dc=corp,dc=example' }).people()).rejects.toMatchObject({ code: 'directory-refused' });
    await expect(ldap(slapd, { base: 'ou=elsewhere,dc=corp,dc=example' }).people()).rejects.toMatchObject({
      code: 'directory-unavailable',
    });
    const deaf = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await new Promise((resolve) => deaf.once('listening', resolve));
    const { port } = deaf.address() as { port: number };
    await expect(ldap(slapd, { url: `ldaps://localhost:${port}` }).people()).rejects.toMatchObject({ code: 'directory-unavailable' });
    deaf.close();
    expect(() => ldap(slapd, { filter: '(mail=' })).toThrow(/directory.filter/);
  });
});

test.each([
  ['', 'line 1'],
  ['mail,id\n', 'line 1: its first line'],
  ['id,addresses,state\na,x@y.example,maybe\n', 'line 2'],
  ['id,addresses,state\na,x@y.example,active\nA,z@y.example,active\n', 'line 3: its id'],
  ['id,addresses,state\na,x@y.example,active', 'half written'],
])('a people’s file that is not whole or not clear is refused, by line: %j', async (text, why) => {
  const file = slapd.file('bad.csv');
  writeFileSync(file, text);
  await expect(new CsvDirectory(file).people()).rejects.toMatchObject({ code: 'directory-refused', message: expect.stringContaining(why) });
});
