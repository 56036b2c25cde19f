import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../../src/demo/programs.js';

const SUFFIX = 'dc=corp,dc=example';
export const PEOPLE = `ou=people,${SUFFIX}`;

/** What Active Directory has and inetOrgPerson has not, under its own OIDs, so that slapd can stand for it. */
const ACTIVE_DIRECTORY = `
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.2.210 NAME 'proxyAddresses' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.3.6.1.4.1.4203.666.1 NAME 'accountStatus' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.2 NAME 'adUser' SUP top AUXILIARY MAY ( objectGUID $ userAccountControl $ proxyAddresses $ accountStatus ) )
`;

/** OpenLDAP's own server on loopback, with a folder of its own: the directory of an organisation. */
export class Slapd {
  readonly folder = mkdtempSync(join(tmpdir(), 'ekms-slapd-'));
  /** The service account that EKMS binds as. */
  readonly bindDn = `cn=ekms,${SUFFIX}`;
  readonly base = PEOPLE;
  readonly suffix = SUFFIX;
  #server: ChildProcess | undefined;
  #ports: [number, number] = [0, 0];

  static async open(): Promise<Slapd> {
    const slapd = new Slapd();
    const [plain = 0, tls = 0] = await freePorts(2);
    slapd.#ports = [plain, tls];
    slapd.#write();
    await slapd.start();
    slapd.add(`dn: ${SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: Corp\ndc: corp\n`);
    slapd.add(`dn: ${PEOPLE}\nobjectClass: organizationalUnit\nou: people\n`);
    slapd.add(
      `dn: ${slapd.bindDn}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: ekms\nuserPassword: service-secret\n`,
    );
    return slapd;
  }

  get url(): string {
    return `ldaps://localhost:${this.#ports[1]}`;
  }

  get plainUrl(): string {
    return `ldap://localhost:${this.#ports[0]}`;
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  /** `directory` of ekms.yaml. */
  settings(more: object = {}): object {
    return {
      url: this.url,
      caFile: this.file('cert.pem'),
      bindDn: this.bindDn,
      passwordFile: this.file('password'),
      base: PEOPLE,
      everyMinutes: 1440,
      ...more,
    };
  }

  #write(): void {
    writeFileSync(this.file('password'), 'service-secret\n', { mode: 0o600 });
    writeFileSync(this.file('ad.schema'), ACTIVE_DIRECTORY);
    mkdirSync(this.file('db'));
    const names = 'subjectAltName=DNS:localhost,IP:127.0.0.1';
    const made = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      this.file('key.pem'),
      '-out',
      this.file('cert.pem'),
    ];
    execFileSync('openssl', ['req', '-x509', ...made, '-days', '30', '-subj', '/CN=localhost', '-addext', names], { stdio: 'pipe' });
    const schemas = ['core', 'cosine', 'inetorgperson'].map((name) => `include /etc/ldap/schema/${name}.schema`);
    writeFileSync(
      this.file('slapd.conf'),
      `${schemas.join('\n')}
include ${this.file('ad.schema')}
pidfile ${this.file('pid')}
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCertificateFile ${this.file('cert.pem')}
TLSCertificateKeyFile ${this.file('key.pem')}
sizelimit 100
database mdb
suffix "${SUFFIX}"
rootdn "cn=root,${SUFFIX}"
rootpw root-secret
directory ${this.file('db')}
dbnosync
limits dn.exact="${this.bindDn}" size.prtotal=unlimited
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="${this.bindDn}" read by anonymous none by * none
`,
    );
  }

  async start(): Promise<void> {
    const [plain, tls] = this.#ports;
    const child = spawn('slapd', ['-d', '0', '-f', this.file('slapd.conf'), '-h', `ldap://127.0.0.1:${plain} ldaps://127.0.0.1:${tls}`], {
      stdio: 'ignore',
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin` },
    });
    this.#server = child;
    for (const until = Date.now() + 20_000; !(await answers(tls)); await sleep(25))
      if (child.exitCode !== null || Date.now() > until) throw new Error(`slapd does not answer (${child.exitCode})`);
  }

  async stop(): Promise<void> {
    const child = this.#server;
    if (!child || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** @param ldif RFC 2849, as the directory's administrator types it */
  add(ldif: string): void {
    this.#tool('ldapadd', [], ldif);
  }

  modify(ldif: string): void {
    this.#tool('ldapmodify', [], ldif);
  }

  delete(dn: string): void {
    this.#tool('ldapdelete', [dn], '');
  }

  /** A person with a password, as `uid=NAME` under `ou=people`. */
  person(name: string, mail: string, more = ''): string {
    const dn = `uid=${name},${PEOPLE}`;
    const classes = 'objectClass: inetOrgPerson\nobjectClass: adUser';
    this.add(`dn: ${dn}\n${classes}\nuid: ${name}\ncn: ${name}\nsn: ${name}\nmail: ${mail}\nuserPassword: ${name}-secret\n${more}`);
    return dn;
  }

  /** Their entryUUID, by OpenLDAP's own client. */
  idOf(dn: string): string {
    const told = this.#tool('ldapsearch', ['-LLL', '-b', dn, '-s', 'base', 'entryUUID'], '');
    return /^entryUUID: (\S+)$/m.exec(told)?.[1] ?? '';
  }

  #tool(name: string, args: string[], input: string): string {
    const who = ['-x', '-H', `ldap://127.0.0.1:${this.#ports[0]}`, '-D', `cn=root,${SUFFIX}`, '-w', 'root-secret'];
    return execFileSync(name, [...who, ...args], { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
  }
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
