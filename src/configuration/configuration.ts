import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { type Document, type ErrorCode, isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { budgetsShape, type PolicyDocument, policyContradictions, policyParts, ROUTE_CLASSES, VERSION } from '../access/index.js';
import { Fault } from '../foundation/index.js';
import { type DirectoryConfiguration, directoryShape } from './directory.js';
import { forwardingShape, settledSinks } from './forwarding.js';
import { mailAddress, path } from './shapes.js';
import { staffShape } from './staff.js';
import { settledWitnesses, witnessingShape, witnessShape } from './witnesses.js';

/** Where a listener listens. */
interface Listen {
  host: string;
  port: number;
}

const NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const hostName = z.string().toLowerCase().regex(NAME, 'must be a host name');
const domain = z
  .string()
  .toLowerCase()
  .refine((name) => NAME.test(name) && name.includes('.'), 'must be a mail domain such as corp.example');
const days = (most: number, standard: number) => z.int().min(1).max(most).default(standard);

const listen = (standard: string) =>
  z
    .string()
    .transform((text, context): Listen => {
      const [, six, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
      const port = Number(digits);
      const sound = six === undefined ? plain !== undefined && (isIP(plain) === 4 || NAME.test(plain)) : isIP(six) === 6;
      if (!sound || port > 65_535)
        context.addIssue({ code: 'custom', message: 'must be ADDRESS:PORT, such as 127.0.0.1:8443 or [::1]:8443' });
      return { host: six ?? plain ?? '', port };
    })
    .prefault(standard);

const maildir = z.strictObject({ transport: z.literal('maildir'), directory: path.default('mail'), from: mailAddress.optional() });
const smtp = z
  .strictObject({
    transport: z.literal('smtp'),
    host: z.string().refine((text) => NAME.test(text.toLowerCase()) || isIP(text) !== 0, 'must be a host name or an address'),
    port: z.int().min(1).max(65_535).optional(),
    tls: z.enum(['implicit', 'starttls', 'none']).default('starttls'),
    /** Authorities that the mail server's certificate may end in; without it, the system's. */
    caFile: path.optional(),
    user: z.string().min(1).optional(),
    passwordFile: path.optional(),
    from: mailAddress.optional(),
  })
  .refine((mail) => (mail.user === undefined) === (mail.passwordFile === undefined), {
    path: ['passwordFile'],
    message: 'user and passwordFile go together',
  })
  .refine((mail) => mail.tls !== 'none' || mail.user === undefined, {
    path: ['tls'],
    message: 'a password does not go over a connection without TLS',
  });

const https = z
  .string()
  .refine(
    (text) => URL.canParse(text) && new URL(text).protocol === 'https:' && new URL(text).origin === text,
    'must be an origin such as https://keys.corp.example',
  )
  .optional();
/** Minutes of idleness and hours in all after which a browser's session is over. */
const session = (idle: number, hours: number) =>
  z.strictObject({ idleMinutes: z.int().min(1).max(240).default(idle), hours: z.int().min(1).max(24).default(hours) }).prefault({});

const databaseUrl = z
  .string()
  .refine(
    (url) => /^sqlite:[^:]+$/.test(url) || (/^postgres(ql)?:\/\/./.test(url) && URL.canParse(url)),
    'must be sqlite:FILE or postgres://…',
  );

const instant = z.iso.datetime({ offset: true, message: 'must be a time such as 2026-03-02T08:00:00Z' });
const timeWindow = z
  .strictObject({ from: instant, to: instant })
  .refine(({ from, to }) => Date.parse(from) < Date.parse(to), { path: ['to'], message: 'must be later than from' });

const schema = z.strictObject({
  listen: z
    .strictObject({
      client: listen('127.0.0.1:8443'),
      administration: listen('127.0.0.1:8444'),
      staff: listen('127.0.0.1:8445'),
      public: listen('127.0.0.1:8480'),
      operation: listen('127.0.0.1:9464'),
    })
    .superRefine((all, context) => {
      for (const [n, one] of ROUTE_CLASSES.entries())
        for (const other of ROUTE_CLASSES.slice(0, n))
          if (all[one].port !== 0 && all[one].port === all[other].port && all[one].host === all[other].host)
            context.addIssue({ code: 'custom', path: [one], message: `is the same as listen.${other}` });
    })
    .prefault({}),
  publicName: hostName.default('localhost'),
  mail: z.discriminatedUnion('transport', [maildir, smtp]).prefault({ transport: 'maildir' }),
  token: z
    .strictObject({
      module: path.default('/usr/lib/softhsm/libsofthsm2.so'),
      label: z.string().min(1).max(32, 'PKCS#11 labels have at most 32 characters').default('ekms'),
      pinFile: path.default('pin'),
      socket: path.optional(),
      /** Where a migration put the token's state and its softhsm2.conf; without it they lie in the home. */
      folder: path.optional(),
      profile: z
        .string()
        .regex(/^[a-z0-9-]+$/, 'must be the name of a profile')
        .default('softhsm'),
      workers: z.int().min(1).max(64).default(2),
    })
    .prefault({}),
  database: z.strictObject({ url: databaseUrl.default('sqlite:ekms.db'), passwordFile: path.optional() }).prefault({}),
  domains: z.array(domain).default([]),
  ...policyParts,
  enrolment: z
    .strictObject({
      second: z.enum(['none', 'device', 'approval', 'directory']).optional(),
      minutes: z.int().min(1).max(60).default(10),
      /** Times in which devices may be enrolled; none: always. */
      windows: z.array(timeWindow).default([]),
      /** Whether only machines that were named before may enrol (ekms device register), or that this CA of the device management certified. */
      device: z.enum(['any', 'registered']).default('any'),
      deviceAuthoritiesFile: path.optional(),
      deviceRevocationsFile: path.optional(),
      devicesPerPerson: z.int().min(1).max(1_000).default(10),
    })
    .prefault({}),
  /** By platform, the oldest client that is served. */
  clients: z
    .record(
      z.string().regex(/^[a-z0-9][a-z0-9._-]{0,31}$/, 'must be a platform'),
      z.strictObject({ minimum: z.string().regex(VERSION, 'must be a version such as 1.4.0') }),
    )
    .default({}),
  keys: z
    .strictObject({
      bits: z.literal([2048, 3072, 4096]).default(3072),
      mode: z.enum(['deliver', 'remote']).default('deliver'),
      pool: z.strictObject({ target: z.int().min(0).max(100_000).default(20) }).prefault({}),
      keepDeliveriesDays: z.int().min(0).max(3_650).default(30),
    })
    .prefault({}),
  // Where another name or port leads to the listener, browsers see that one; its host must be publicName, which passkeys are bound to.
  origins: z.strictObject({ administration: https, staff: https }).prefault({}),
  sessions: z.strictObject({ administration: session(15, 8), staff: session(60, 12) }).prefault({}),
  directory: directoryShape.optional(),
  budgets: budgetsShape,
  forwarding: forwardingShape,
  // Years that entries of the log are kept (ekms audit prune); without it, for good.
  retention: z.strictObject({ auditYears: z.int().min(1).max(100).optional() }).prefault({}),
  staff: staffShape,
  // How long everybody can stop new officers who are made without two, and who hears of it besides all administrators.
  breakGlass: z.strictObject({ hours: z.int().min(24).max(720).default(48), announce: z.array(mailAddress).default([]) }).prefault({}),
  // Until when what was asked for may be approved and done.
  approvals: z.strictObject({ hours: z.int().min(1).max(720).default(72) }).prefault({}),
  authorities: z.enum(['p384', 'rsa4096']).default('p384'),
  certificates: z
    .strictObject({
      personDays: days(1_825, 730),
      deviceDays: days(1_095, 365),
      /** What follows a person's certificate, and how long before its end: another on the same key, or a new key. */
      renewal: z.strictObject({ key: z.enum(['same', 'new']).default('same'), overlapDays: days(365, 30) }).prefault({}),
    })
    .prefault({}),
  /** `two`: a key counts as born only when the escrow journal holds it too. */
  durability: z.enum(['one', 'two']).default('one'),
  escrow: z.strictObject({ directory: path }).optional(),
  documents: z
    .strictObject({
      /** Of one uploaded document. */
      megabytes: z.int().min(1).max(4_096).default(256),
      /** The organisation's own certificate, PEM: every document is encrypted to it too. */
      recoveryCertificateFile: path.optional(),
      /** Uploads that are encrypted already: opened with the key that a reader's device sends along, or always refused. */
      encrypted: z.enum(['open', 'refuse']).default('open'),
      groups: z.record(z.string().regex(/^[a-z0-9][a-z0-9-]*$/, 'must be a name in lower case'), z.array(z.string()).max(200)).default({}),
    })
    .prefault({}),
  witnesses: witnessShape.prefault({}),
  witnessing: witnessingShape,
  backup: z
    .strictObject({
      directory: path.default('backups'),
      /** 0: only when asked for. */
      everyHours: z.int().min(0).max(720).default(24),
      keep: z.int().min(1).max(1_000).default(14),
      /** Every so many-th backup is a full one, the others hold what changed since the one before; 1: each is full. */
      fullEvery: z.int().min(1).max(100).default(7),
    })
    .prefault({}),
});

const sound = schema.superRefine((given, context) => {
  for (const { path, message } of policyContradictions(given)) context.addIssue({ code: 'custom', path, message });
  const { personDays, renewal } = given.certificates;
  if (renewal.overlapDays >= personDays)
    context.addIssue({
      code: 'custom',
      path: ['certificates', 'renewal', 'overlapDays'],
      message: 'must be less than certificates.personDays',
    });
  if (given.durability === 'two' && !given.escrow)
    context.addIssue({ code: 'custom', path: ['escrow'], message: 'durability: two needs escrow.directory' });
});

type Parsed = z.output<typeof schema>;
type Smtp = Extract<Parsed['mail'], { transport: 'smtp' }>;

/** `ekms.yaml` with every default filled in and every path absolute. */
export type Configuration = Omit<Parsed, 'mail' | 'enrolment'> & {
  home: string;
  mail: { transport: 'maildir'; directory: string; from: string } | (Omit<Smtp, 'port' | 'from'> & { port: number; from: string });
  enrolment: Omit<Parsed['enrolment'], 'second'> & { second: 'none' | 'device' | 'approval' | 'directory' };
};

/** The network policy that the file proposes. */
export const policyOf = ({ networks, network, tls, isolation }: Configuration): PolicyDocument => ({ networks, network, tls, isolation });

export const configurationFile = (home: string): string => join(home, 'ekms.yaml');

/** Reads `$EKMS_HOME/ekms.yaml`; without one, all defaults. Rejects with `configuration-invalid`, naming every error with its line, path and reason. */
export function loadConfiguration(home: string): Configuration {
  return parseConfiguration(read(configurationFile(home)), home);
}

/** The text of ekms.yaml with these settings of the token, everything else as it stands; undefined takes one out. */
export function tokenNamed(
  text: string,
  token: Partial<Record<'label' | 'module' | 'profile' | 'folder' | 'pinFile', string | undefined>>,
): string {
  const document = parseDocument(text);
  for (const [name, value] of Object.entries(token))
    if (value === undefined) document.deleteIn(['token', name]);
    else document.setIn(['token', name], value);
  return document.toString();
}

const YAML_SAYS: Partial<Record<ErrorCode, string>> = {
  DUPLICATE_KEY: 'this setting stands there twice',
  MULTIPLE_DOCS: 'after --- another document begins: the file holds one',
};
/** The package's message without its place, which stands before it, and without its excerpt: that could hold anything. */
const plainYaml = (message: string): string => (message.split('\n', 1)[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');

export function parseConfiguration(text: string, home: string): Configuration {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  if (document.errors.length > 0)
    throw invalid(
      document.errors.map(({ pos, code, message }) => `line ${lines.linePos(pos[0]).line}: ${YAML_SAYS[code] ?? plainYaml(message)}`),
    );
  const parsed = sound.safeParse(document.toJS() ?? {});
  if (!parsed.success) throw invalid(parsed.error.issues.flatMap((issue) => told(issue, document, lines)));
  return settled(parsed.data, resolve(home));
}

function settled(given: Parsed, home: string): Configuration {
  const absolute = (file: string) => resolve(home, file);
  const { mail, token, database, enrolment, directory, staff } = given;
  const from = mail.from ?? `ekms@${given.domains[0] ?? 'appliance.invalid'}`; // RFC 2606: nobody's
  if (staff.signIn.includes('ldap') && directory?.source !== 'ldap') throw invalid(['staff.signIn: ldap needs a directory with its url']);
  if (enrolment.second === 'directory' && !staff.signIn.some((method) => method !== 'code'))
    throw invalid(['enrolment.second: directory needs staff.signIn with oidc or ldap']);
  return {
    ...given,
    home,
    domains: [...new Set(given.domains)],
    mail:
      mail.transport === 'maildir'
        ? { transport: 'maildir', directory: absolute(mail.directory), from }
        : {
            ...mail,
            ...files(mail, ['passwordFile', 'caFile'], absolute),
            port: mail.port ?? { implicit: 465, starttls: 587, none: 25 }[mail.tls],
            from,
          },
    token: { ...token, ...files(token, ['module', 'pinFile', 'socket', 'folder'], absolute) },
    ...(given.escrow ? { escrow: { directory: absolute(given.escrow.directory) } } : {}),
    documents: { ...given.documents, ...files(given.documents, ['recoveryCertificateFile'], absolute) },
    forwarding: settledSinks(given.forwarding, absolute),
    backup: { ...given.backup, directory: absolute(given.backup.directory) },
    witnesses: settledWitnesses(given.witnesses, absolute),
    database: { ...database, ...files(database, ['passwordFile'], absolute) },
    staff: staff.oidc ? { ...staff, oidc: { ...staff.oidc, ...files(staff.oidc, ['clientSecretFile', 'caFile'], absolute) } } : staff,
    ...(directory ? { directory: { ...directory, ...filesOfDirectory(directory, absolute) } } : {}),
    // Who reads a Maildir on this very machine proves nothing more by a second device.
    enrolment: {
      ...enrolment,
      ...files(enrolment, ['deviceAuthoritiesFile', 'deviceRevocationsFile'], absolute),
      second: enrolment.second ?? (mail.transport === 'maildir' ? 'none' : 'device'),
    },
  };
}

const filesOfDirectory = (directory: DirectoryConfiguration, absolute: (file: string) => string) =>
  directory.source === 'ldap' ? files(directory, ['passwordFile', 'caFile'], absolute) : files(directory, ['csvFile'], absolute);

function files<T extends object, N extends keyof T>(from: T, names: readonly N[], absolute: (file: string) => string): Partial<Pick<T, N>> {
  const found = names.filter((name) => from[name] !== undefined);
  return Object.fromEntries(found.map((name) => [name, absolute(String(from[name]))])) as Partial<Pick<T, N>>; // the same names, still strings
}

function told(issue: z.core.$ZodIssue, document: Document, lines: LineCounter): string[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => `${place([...issue.path, key], document, lines)}: there is no such setting`);
  return [`${place(issue.path, document, lines)}: ${issue.message.replace(/^Invalid (input|option): /, '')}`];
}

/** `line 3, keys.bits`, with the line of the nearest thing that is really there. */
function place(where: readonly PropertyKey[], document: Document, lines: LineCounter): string {
  const name = where.map(String).join('.') || 'the whole file';
  for (let depth = where.length; depth > 0; depth--) {
    const parent = depth === 1 ? document.contents : document.getIn(where.slice(0, depth - 1), true);
    const pair = isMap(parent)
      ? parent.items.find(({ key }) => isScalar(key) && String(key.value) === String(where[depth - 1]))
      : undefined;
    const node = pair?.key ?? document.getIn(where.slice(0, depth), true);
    if (isNode(node) && node.range) return `line ${lines.linePos(node.range[0]).line}, ${name}`;
  }
  return name;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return '';
    throw invalid([message]);
  }
}

const byLine = new Intl.Collator('en', { numeric: true }).compare;
const invalid = (problems: string[]): Fault =>
  new Fault(
    'misconfigured',
    'configuration-invalid',
    `ekms.yaml cannot be used:\n${problems
      .sort(byLine)
      .map((problem) => `  ${problem}`)
      .join('\n')}`,
  );

/** The file that `ekms init` writes: what most sites touch, the rest shown as comments with its defaults. */
export const freshConfiguration = (
  domains: readonly string[],
  publicName = 'localhost',
): string => `# EKMS. Every setting has a default; relative paths are relative to this folder. Secrets are in files of their own.

# Mail domains whose people may enrol.
domains: ${JSON.stringify(domains)}

# The name under which devices and browsers reach this appliance: in URLs and certificates, for good.
publicName: ${publicName}

# ADDRESS:PORT for each kind of caller. Loopback until you say otherwise.
listen:
  client: "127.0.0.1:8443"
  administration: "127.0.0.1:8444"
  staff: "127.0.0.1:8445"
  public: "127.0.0.1:8480"
  operation: "127.0.0.1:9464"

# For evaluation only: each message becomes a file in a Maildir per address.
mail: { transport: maildir, directory: mail }
# mail: { transport: smtp, host: mail.corp.example, tls: starttls, user: ekms, passwordFile: mail-password, from: ekms@corp.example }

# Who may reach what. Without it, this machine only.
# networks:
#   employees: { addresses: [10.1.0.0/16, "fd00:1::/48"], reach: [client, staff, public] }
#   administrators: { addresses: [10.2.0.0/24], reach: [administration, staff, public, operation] }
# Nobody beyond network.internal gets in, listed or not. Proxies and egress: see the operator's guide.
# network: { internal: [127.0.0.0/8, "::1", 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, "fc00::/7"], connectionsPerAddress: 500 }
# tls: { minimum: "1.3" }                         # or "1.2"
# isolation: { mode: warn, canaries: [], names: [], minutes: 5 }   # enforce: no keys while the Internet is in reach

# token: { module: /usr/lib/softhsm/libsofthsm2.so, label: ekms, pinFile: pin, profile: softhsm, workers: 2 }
# database: { url: "sqlite:ekms.db" }             # or: { url: "postgres://ekms@db.corp.example/ekms", passwordFile: db-password }
# enrolment: { minutes: 10, device: any }         # second: none | device | approval | directory; device, unless mail goes to a Maildir
# (device: registered lets in only machines on the list, or with deviceAuthoritiesFile those that your device management certified)
# clients: { linux: { minimum: "1.4.0" } }         # older ones are told to update
# keys: { bits: 3072, mode: deliver, pool: { target: 20 }, keepDeliveriesDays: 30 }
# sessions: { administration: { idleMinutes: 15, hours: 8 }, staff: { idleMinutes: 60, hours: 12 } }
# breakGlass: { hours: 48, announce: [] }          # at least 24; addresses that hear of it besides the administrators
# approvals: { hours: 72 }                        # until when a request may be approved and done
# origins: { administration: "https://keys.corp.example" }   # where a browser reaches the listener under another port
# directory: { url: "ldaps://dc.corp.example", bindDn: "cn=ekms,dc=corp,dc=example", passwordFile: directory-password, base: "dc=corp,dc=example" }
# budgets: { retrievals: { device: { minute: 120, day: 2000 } }, rollouts: [] }   # the others: operator's guide, "Budgets"
# documents: { megabytes: 256, recoveryCertificateFile: recovery.pem, groups: { board: [ann@corp.example, bob@corp.example] } }
# forwarding: { siem: { to: syslog, host: siem.corp.example, form: cef, caFile: siem-ca.pem } }   # or: file, otlp; operator's guide, "The log outside"
# authorities: p384                               # or rsa4096; counts at init
# durability: two                                 # with: escrow: { directory: /mnt/second/ekms } (ekms escrow prepare)
# backup: { directory: backups, everyHours: 24, keep: 14, fullEvery: 7 }   # a second disk or a share; needs a ceremony with custodians
# witnesses: { readable: [{ name: vault, folder: /mnt/worm/ekms }], unreachable: serve }   # who remembers the log; wait: no keys until one is reached
# witnessing: { logs: ["keys.other.example/v1/audit+…"] }   # other appliances (their audit.pub) whose log is remembered here
# certificates: { personDays: 730, deviceDays: 365, renewal: { key: same, overlapDays: 30 } }   # new: each renewal is a new key
`;
