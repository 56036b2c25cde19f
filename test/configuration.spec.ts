import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { configurationFile, freshConfiguration, loadConfiguration, parseConfiguration } from '../src/configuration/index.js';
import { Fault } from '../src/foundation/index.js';

const home = mkdtempSync(join(tmpdir(), 'ekms-conf-'));
afterAll(() => rmSync(home, { recursive: true }));

const parse = (text: string) => parseConfiguration(text, '/srv/ekms');

function refusal(text: string): string[] {
  try {
    parse(text);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    expect(error).toMatchObject({ kind: 'misconfigured', code: 'configuration-invalid' });
    return error.message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  throw new Error('it was accepted');
}

describe('configuration', () => {
  test('every setting has a default, and an absent file is all defaults', () => {
    expect(loadConfiguration(home)).toEqual({
      ...parse(''),
      home,
      mail: { ...parse('').mail, directory: join(home, 'mail') },
      token: { ...parse('').token, pinFile: join(home, 'pin') },
      backup: { ...parse('').backup, directory: join(home, 'backups') },
    });
    expect(parse('')).toMatchObject({
      home: '/srv/ekms',
      listen: {
        client: { host: '127.0.0.1', port: 8443 },
        public: { host: '127.0.0.1', port: 8480 },
        operation: { host: '127.0.0.1', port: 9464 },
      },
      publicName: 'localhost',
      mail: { transport: 'maildir', directory: '/srv/ekms/mail' },
      token: { module: '/usr/lib/softhsm/libsofthsm2.so', label: 'ekms', pinFile: '/srv/ekms/pin', profile: 'softhsm', workers: 2 },
      database: { url: 'sqlite:ekms.db' },
      domains: [],
      networks: {
        loopback: { addresses: ['127.0.0.0/8', '::1/128'], reach: ['client', 'administration', 'staff', 'public', 'operation'] },
      },
      enrolment: { second: 'none', minutes: 10 },
      keys: { bits: 3072, mode: 'deliver', pool: { target: 20 }, keepDeliveriesDays: 30 },
      authorities: 'p384',
    });
  });

  test.each([
    ['a second document', 'publicName: a\n---\npublicName: b', 'line 2: after --- another document begins: the file holds one'],
    ['a tab', 'keys:\n\tbits: 3072', 'line 2: Tabs are not allowed as indentation'],
  ])('%s is told by its line alone', (_, text, words) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ message: `ekms.yaml cannot be used:\n  ${words}` }));
  });

  test('a byte order mark and the line ends of Windows change nothing', () => {
    expect(parse('\ufeffdomains: [corp.example]\r\npublicName: ekms.corp.example\r\n')).toEqual(
      parse('domains: [corp.example]\npublicName: ekms.corp.example\n'),
    );
  });

  test('the fresh file is the defaults with the domains asked for, and its comments are true', () => {
    const text = freshConfiguration(['corp.example']);
    const fresh = parse(text);
    expect(fresh).toEqual({ ...parse(''), domains: ['corp.example'], mail: { ...fresh.mail } });
    const uncommented = text
      .split('\n')
      .map((line) => line.replace(/^# (?=(network|tls|isolation|token|database|enrolment|keys|authorities|certificates):)/, ''))
      .join('\n');
    expect(parse(uncommented)).toEqual(fresh);
    const networks = text
      .split('\n')
      .map((line) => line.replace(/^# (?=networks:| {2})/, ''))
      .join('\n');
    expect(Object.keys(parse(networks).networks)).toEqual(['employees', 'administrators']);
    const smtp = text.replace(/^mail:.*$/m, '').replace(/^# mail:/m, 'mail:');
    expect(parse(smtp)).toMatchObject({
      mail: { transport: 'smtp', port: 587, passwordFile: '/srv/ekms/mail-password' },
      enrolment: { second: 'device' },
    });
  });

  test('the example of the design is accepted as it stands', () => {
    const config = parse(`
listen: { client: "127.0.0.1:8443", administration: "127.0.0.1:8444", staff: "127.0.0.1:8445", public: "127.0.0.1:8480", operation: "127.0.0.1:9464" }
publicName: localhost                                 # in URLs
mail: { transport: maildir, directory: mail }
token: { module: /usr/lib/softhsm/libsofthsm2.so, label: ekms, pinFile: pin }
database: { url: "sqlite:ekms.db" }
domains: [corp.example]
networks:
  employees: { addresses: [10.1.0.0/16, "fd00:1::/48"], reach: [client, staff, public] }
  administrators: { addresses: [10.2.0.0/24], reach: [administration, staff, public, operation] }
`);
    expect(config.networks['employees']).toEqual({ addresses: ['10.1.0.0/16', 'fd00:1::/48'], reach: ['client', 'staff', 'public'] });
  });

  test('all errors are named at once, each with its line, path and reason', () => {
    const told = refusal(`domains: [corp.example, "not a domain"]
publicname: ekms
keys:
  bits: 1024
  pool: { target: -1, size: 4 }
token: { workers: two }
database: { url: "mysql://u:hunter2@db/ekms" }
listen:
  client: 8443
  staff: "127.0.0.1:8444"
networks:
  office: { addresses: [10.1.0.5/16, 300.1.1.1], reach: [everything] }
enrolment: { second: sometimes, minutes: 0 }
`);
    expect(told).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^line 1, domains\.1: must be a/),
        expect.stringMatching(/^line 2, publicname: there is no such setting$/),
        expect.stringMatching(/^line 4, keys\.bits: .*2048.*3072.*4096/),
        expect.stringMatching(/^line 5, keys\.pool\.target: /),
        expect.stringMatching(/^line 5, keys\.pool\.size: there is no such setting$/),
        expect.stringMatching(/^line 6, token\.workers: expected (int|number)/),
        expect.stringMatching(/^line 7, database\.url: must be sqlite:FILE or postgres/),
        expect.stringMatching(/^line 9, listen\.client: expected string/),
        expect.stringMatching(/^line 12, networks\.office\.addresses\.0: .*write 10\.1\.0\.0\/16/),
        expect.stringMatching(/^line 12, networks\.office\.addresses\.1: must be an address/),
        expect.stringMatching(/^line 12, networks\.office\.reach\.0: /),
        expect.stringMatching(/^line 13, enrolment\.second: .*none/),
        expect.stringMatching(/^line 13, enrolment\.minutes: /),
      ]),
    );
    expect(told).toHaveLength(13);
    expect(told.map((line) => Number(/\d+/.exec(line)?.[0]))).toEqual([1, 2, 4, 5, 5, 6, 7, 9, 12, 12, 12, 13, 13]);
    expect(told.join()).not.toContain('hunter2');
  });

  test.each([
    [
      'the same address twice',
      'listen: { client: "127.0.0.1:9000", staff: "127.0.0.1:9000" }',
      /^line 1, listen\.staff: is the same as listen\.client/,
    ],
    ['no port', 'listen: { client: "127.0.0.1" }', /ADDRESS:PORT/],
    ['a port beyond the last', 'listen: { client: "127.0.0.1:65536" }', /ADDRESS:PORT/],
    [
      'a password without TLS',
      'mail: { transport: smtp, host: mail, tls: none, user: u, passwordFile: p }',
      /^line 1, mail\.tls: .*without TLS/,
    ],
    ['a mail server that is no host', 'mail: { transport: smtp, host: "not a host" }', /mail\.host: must be a host name or an address/],
    ['a user without a password', 'mail: { transport: smtp, host: mail, user: u }', /passwordFile: user and passwordFile go together/],
    [
      'a sender that is no address',
      'mail: { transport: maildir, from: "EKMS <ekms@corp.example>" }',
      /mail\.from: must be an e-mail address/,
    ],
    ['a transport we do not have', 'mail: { transport: pigeon }', /^line 1, mail\.transport: /],
    ['a setting of the other transport', 'mail: { transport: maildir, host: mail }', /mail\.host: there is no such setting/],
    ['a key twice', 'domains: []\ndomains: [a.example]', /^line 2: this setting stands there twice$/],
    ['YAML that is none', 'keys: { bits: 3072', /^line \d: /],
    ['a list', '- a\n- b', /^the whole file: expected object/],
    ['a word', 'hello', /^the whole file: expected object/],
    ['a leaf that outlives its issuer', 'certificates: { personDays: 6000 }', /certificates.personDays/],
    ['an IPv6 block with bits beyond it', 'networks: { n: { addresses: ["fd00:1::1/48"], reach: [client] } }', /write fd00:1::\/48/],
  ])('refused with its reason: %s', (_, text, reason) => {
    expect(refusal(text)).toEqual([expect.stringMatching(reason)]);
  });

  test('addresses get one spelling: lower case, with a length, IPv4 within IPv6 as IPv4', () => {
    const { networks, listen, domains } = parse(
      'networks: { n: { addresses: [10.2.0.7, "FD00:1:0::/48", "::ffff:10.3.0.0/112", "::FFFF:10.4.0.1"], reach: [client] } }\nlisten: { client: "[::1]:0", staff: "[::1]:0" }\ndomains: [CORP.example, corp.example]',
    );
    expect(networks['n']?.addresses).toEqual(['10.2.0.7/32', 'fd00:1::/48', '10.3.0.0/16', '10.4.0.1/32']);
    expect(listen.client).toEqual({ host: '::1', port: 0 });
    expect(domains).toEqual(['corp.example']);
  });

  test('relative paths start at the home, absolute ones stay', () => {
    const config = parse(
      'token: { pinFile: /run/credentials/pin, socket: run/token.sock }\nmail: { transport: smtp, host: mail.corp.example, user: u, passwordFile: secrets/mail, caFile: /etc/ca.pem, tls: implicit }\ndatabase: { url: "postgres://ekms@db/ekms", passwordFile: db }',
    );
    expect(config).toMatchObject({
      token: { pinFile: '/run/credentials/pin', socket: '/srv/ekms/run/token.sock' },
      mail: { passwordFile: '/srv/ekms/secrets/mail', caFile: '/etc/ca.pem', port: 465 },
      database: { url: 'postgres://ekms@db/ekms', passwordFile: '/srv/ekms/db' },
    });
  });

  test('a file that cannot be read says why', () => {
    const odd = join(home, 'odd');
    mkdirSync(configurationFile(odd), { recursive: true });
    expect(() => loadConfiguration(odd)).toThrow(/EISDIR/);
    writeFileSync(configurationFile(home), 'domains: [a.example]\n');
    expect(loadConfiguration(home).domains).toEqual(['a.example']);
  });
});
