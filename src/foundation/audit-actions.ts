import { ROLES } from './roles.js';

/**
 * The schema of the log: what each action may say. **A new action is one line here**; what is not in this table does not compile, and does not
 * get into the log at run time either. A landed line is never narrowed or renamed: entries are kept for years and their readers with them. What
 * must change gets the next `v` (docs/formats/audit-entry.md).
 */
export interface Fact<T> {
  is(value: unknown): value is T;
}

const text = <T extends string>(form: RegExp): Fact<T> => ({
  is: (value): value is T => typeof value === 'string' && form.test(value),
});

/** A count, version or number of ours: whole, not negative. Beyond 2^53 it travels as a decimal string. */
const count: Fact<number> = { is: (value): value is number => typeof value === 'number' && Number.isInteger(value) && value >= 0 };
const flag: Fact<boolean> = { is: (value): value is boolean => typeof value === 'boolean' };
/** SHA-256, base64url. */
const digest: Fact<string> = text(/^[A-Za-z0-9_-]{43}$/);
/** Lower-case hexadecimal. */
const serial: Fact<string> = text(/^[0-9a-f]{1,40}$/);
/** An id or a short name of a small alphabet, such as a platform. Never a sentence, never what names a person. */
const word: Fact<string> = text(/^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}$/);
/** Random bytes, base64url: it may begin with any of its letters. */
const nonce: Fact<string> = text(/^[A-Za-z0-9_-]{1,128}$/);
const oneOf = <const T extends readonly string[]>(...values: T): Fact<T[number]> => ({
  is: (value): value is T[number] => typeof value === 'string' && values.includes(value),
});

/** Personal values that any action may carry beside its own: where the request came from. */
const ANYWHERE = ['network'] as const;

interface ActionSchema {
  /** Version of this action's schema; 1 where it is not said. */
  readonly v?: number;
  readonly facts?: { readonly [name: string]: Fact<string | number | boolean> };
  /** Names of values that stand in the entry as salted digests only. */
  readonly personal?: readonly string[];
}

const MODE = oneOf('deliver', 'remote', 'quorum');
const ROLE = oneOf(...ROLES, 'none');
const WHY = oneOf('invitation', 'bootstrap', 'renewal', 'break-glass');
const PASSKEY = { passkey: digest, publicKey: digest, synced: flag } as const;
const BUDGET = {
  counter: oneOf('challenges', 'enrolments', 'retrievals', 'decryptions', 'readings', 'documents', 'signIns'),
  scope: oneOf('mailbox', 'source', 'device', 'person', 'app', 'site', 'appliance', 'rollout'),
} as const;
const NETWORK = { version: count, digest, origin: oneOf('file', 'act', 'rollback'), trial: flag } as const;
const BREACH = oneOf('audit-rolled-back', 'audit-forked', 'audit-token-older');
const AUDIENCE = oneOf('administration', 'staff');

/** A list of recovery agents: its digest, how many there are, how many are needed. */
const AGENTS = { request: digest, version: count, agents: count, quorum: count } as const;

const ACTIONS = {
  'appliance.init': {},
  'appliance.start': {},
  'appliance.stop': {},
  'appliance.reconcile': { facts: { intents: count } },
  'app.issue': { facts: { platform: word, release: word } },
  'app.revoke': { facts: { devices: flag } },
  'app.admit': {},
  'enrolment.request': { facts: { platform: word }, personal: ['address'] },
  'enrolment.answer': { facts: { waits: oneOf('device', 'directory', 'approval') } },
  'enrolment.confirm': { facts: { confirm: flag, method: word }, personal: ['address'] },
  'enrolment.approve': {},
  'enrolment.deny': {},
  'registration.add': { personal: ['identifier', 'address'] },
  'registration.remove': { facts: { devices: flag }, personal: ['identifier'] },
  'registration.require': {
    facts: {
      rule: oneOf(
        'missing',
        'unknown',
        'other-person',
        'in-use',
        'forged',
        'proof-wrong',
        'foreign',
        'expired',
        'unfit',
        'revoked',
        'revocation-unknown',
      ),
    },
    personal: ['address'],
  },
  'device.admit': { facts: { certificate: digest } },
  'device.enrol': { facts: { serial, platform: word }, personal: ['address'] },
  'device.revoke': {},
  'device.freeze': {},
  'device.list': {},
  'employee.create': {},
  'employee.stop': {},
  'employee.resume': {},
  'employee.join': {},
  'binding.begin': { personal: ['address'] },
  'binding.link': { personal: ['directory'] },
  'binding.end': { personal: ['address'] },
  'key.birth': { facts: { n: count, suite: oneOf('rsa', 'ec', 'sm2'), bits: count, kek: word, publicKey: digest } },
  'key.assign': { facts: { n: count, publicKey: digest, mode: MODE } },
  'key.destroy': { facts: { statement: digest, publicKey: digest } },
  'key.kind': { facts: { suite: oneOf('rsa', 'ec', 'sm2'), bits: count } },
  'mailbox.create': {},
  'mailbox.add': { facts: { member: word } },
  'mailbox.remove': { facts: { member: word } },
  'retention.adopt': { facts: { years: count } },
  'hold.place': {},
  'hold.lift': {},
  'key.import': { facts: { publicKey: digest, bits: count, mode: MODE, certificates: count } },
  'key.pending': {},
  // `member`: whose device it is, where the key is a shared mailbox's.
  'key.deliver': { facts: { kept: flag, member: word } },
  'key.decrypt': { facts: { scheme: oneOf('rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256'), length: count, member: word } },
  'key.read': { facts: { request: digest, reader: word, length: count }, personal: ['reader'] },
  'key.uses': { facts: { nonce: digest } },
  'key.change': { facts: { version: count, state: word, mode: MODE } },
  'certificate.issue': { facts: { profile: oneOf('tls-server', 'mail-signing') }, personal: ['address'] },
  'certificate.revoke': {},
  'certificate.find': {},
  'crl.issue': { facts: { authority: oneOf('root', 'people', 'devices', 'infrastructure'), n: count, number: count, entries: count } },
  'mail.send': { facts: { kind: word, attempts: count }, personal: ['recipient'] },
  'request.refuse': {},
  'session.begin': { facts: { audience: AUDIENCE, method: word }, personal: ['address', 'name', 'directory', 'subject'] },
  'session.end': {},
  'session.admit': { facts: { audience: AUDIENCE } },
  'staff.code': { personal: ['address'] },
  'staff.sign-in': { facts: { method: word } },
  'administrator.invite': { facts: { why: WHY, role: ROLE }, personal: ['name', 'address'] },
  'administrator.register': { facts: { why: WHY, role: ROLE, ...PASSKEY }, personal: ['name', 'address'] },
  'administrator.sign-in': {},
  'administrator.role': { facts: { role: ROLE } },
  'administrator.remove': {},
  'passkey.add': { facts: PASSKEY },
  'passkey.remove': { facts: { passkey: digest } },
  'bootstrap.end': { facts: { officers: count } },
  'bootstrap.act': { facts: { act: word } },
  'break-glass.begin': { facts: { officers: count, opens: count, announced: count, named: digest } },
  'break-glass.cancel': {},
  'break-glass.open': { facts: { officers: count } },
  'request.file': { facts: { act: word, hash: digest, role: oneOf(...ROLES), needed: count, expires: count } },
  'request.approve': { facts: { act: word, hash: digest, passkey: digest, assertion: digest } },
  'request.deny': { facts: { act: word } },
  'request.perform': { facts: { act: word, hash: digest } },
  'clock.jump': { facts: { direction: oneOf('forward', 'back'), milliseconds: count } },
  'audit.key': { facts: { n: count, key: digest } },
  'audit.head': { facts: { origin: word, size: count, root: digest } },
  'audit.breach': { facts: { code: BREACH, from: word, size: count } },
  'audit.accept': { facts: { why: BREACH, from: word, size: count, root: digest, kept: count, lost: count, origin: word } },
  'audit.origin': { facts: { origin: word } },
  'witness.state': { facts: { witness: word, state: oneOf('unasked', 'agrees', 'disagrees', 'away') } },
  'witness.cosign': { facts: { log: word, size: count, root: digest } },
  'audit.timestamp': { facts: { size: count, root: digest, token: digest } },
  'audit.read': { facts: { from: count, count } },
  'audit.search': { facts: { by: word, count }, personal: ['sought'] },
  'audit.erase': { facts: { values: count } },
  'entry.sealed': { facts: { until: count }, personal: ['sealed'] },
  'entry.unseal': { facts: { entry: count } },
  'audit.prune': { facts: { until: count, years: count } },
  'audit.evidence': { facts: { manifest: digest, entries: count } },
  'audit.report': { facts: { report: word, rows: count } },
  'forward.fail': { facts: { sink: word } },
  'forward.resume': { facts: { sink: word } },
  'pool.fill': { facts: { level: count } },
  'pool.destroy': { facts: { n: count } },
  'refusals.count': { facts: { of: word, count } },
  'budget.exceed': { facts: { ...BUDGET, window: oneOf('minute', 'day'), limit: count } },
  'budget.freeze': { facts: BUDGET },
  'budget.unfreeze': { facts: { scope: BUDGET.scope } },
  'policy.change': { facts: { mode: MODE } },
  'pdf.recovery': { facts: { state: oneOf('on', 'off') }, personal: ['address'] },
  'pdf.encrypt': {
    facts: { source: digest, result: digest, recipients: count, pages: count, bytes: count, opened: flag },
    personal: ['recipients'],
  },
  'custody.ceremony': { facts: { ceremony: nonce, threshold: count, shares: count, minutes: digest } },
  'custody.permit': { facts: { plan: digest, threshold: count, shares: count } },
  'custody.reissue': { facts: { ceremony: nonce, former: nonce, threshold: count, shares: count, minutes: digest } },
  'custody.drill': { facts: { keys: count, entries: count, seconds: count, problems: count } },
  'token.pin': {},
  'tls.renew': {},
  'token.migrate': { facts: { from: word, to: word, keys: count, pairs: count } },
  'token.destroy': { facts: { label: word } },
  'token-key.rotate': { facts: { name: word, n: count, publicKey: digest } },
  'authority.retire': { facts: { name: word, n: count, revoked: flag } },
  'token-key.destroy': { facts: { name: word, n: count } },
  'kek.rotate': { facts: { kek: word } },
  'kek.rotated': { facts: { kek: word } },
  'kek.destroy': { facts: { kek: word } },
  'recovery.file': {
    facts: {
      request: digest,
      reason: oneOf('departed', 'deceased', 'lost-devices', 'continuity', 'legal'),
      keys: count,
      message: flag,
      quiet: flag,
      reading: flag,
    },
  },
  'recovery.approve': { facts: { request: digest, approvals: count } },
  'recovery.end': {},
  'recovery.release': { facts: { request: digest, message: flag } },
  'transfer.key': { facts: { publicKey: digest } },
  'transfer.file': { facts: { request: digest, to: digest, reason: oneOf('migration', 'handover', 'archive', 'legal'), people: count } },
  'transfer.approve': { facts: { request: digest, approvals: count } },
  'transfer.end': {},
  'key.export': { facts: { request: digest } },
  'transfer.close': { facts: { digest, keys: count } },
  'transfer.accept': { facts: { request: digest, file: digest, root: digest, keys: count, people: count } },
  'agents.file': { facts: AGENTS },
  'agents.approve': { facts: { request: digest, approvals: count } },
  'agents.appoint': { facts: AGENTS },
  'backup.create': { facts: { bytes: count, digest, entries: count, base: digest } },
  'appliance.restore': {
    facts: {
      entries: count,
      keys: count,
      people: count,
      pairsDestroyed: count,
      devicesEnded: count,
      head: count,
      root: digest,
      lost: count,
    },
  },
  'network.change': { facts: NETWORK },
  'network.rollback': { facts: NETWORK },
  'network.confirm': { facts: { version: count } },
  'network.file': { facts: { digest, widenings: count } },
  'connection.refuse': { facts: { listener: oneOf('client', 'administration', 'staff', 'public', 'operation', 'any'), count } },
  'isolation.find': { facts: { findings: count, mode: oneOf('warn', 'enforce') } },
  'directory.sync': {
    facts: {
      ...{ linked: count, questions: count, missed: count },
      ...{ link: count, 'end-address': count, stop: count, resume: count, 'add-address': count, join: count },
      step: oneOf('link', 'end-address', 'stop', 'resume', 'add-address', 'join'),
    },
  },
} as const satisfies Record<string, ActionSchema>;

export type AuditAction = keyof typeof ACTIONS;
export const isAuditAction = (text: string): text is AuditAction => Object.hasOwn(ACTIONS, text);
type Said<F> = F extends Fact<infer T> ? T : never;

/** Every fact may be absent: a refusal knows less than what was done. */
export type FactsOf<A extends AuditAction> = (typeof ACTIONS)[A] extends { readonly facts: infer F }
  ? { readonly [N in keyof F]?: Said<F[N]> }
  : Readonly<Record<string, never>>;
export type PersonalOf<A extends AuditAction> = {
  readonly [N in
    | (typeof ANYWHERE)[number]
    | ((typeof ACTIONS)[A] extends { readonly personal: readonly (infer P extends string)[] } ? P : never)]?: string;
};

/** Codes of refusals and reasons of revocation. */
const REASON = /^[A-Za-z][A-Za-z0-9-]{0,79}$/;
/** Ids have no blanks in them: nothing that is one can hold a sentence. */
const ID = /^[\x21-\x7e]{1,128}$/;

/** What `inadmissible` looks at: an event as it comes, whatever its type promised. */
export interface PlainEvent {
  action: string;
  outcome: string;
  reason?: string;
  actor: { kind: string; id?: string };
  employee?: string;
  device?: string;
  key?: string;
  subject?: string;
  request?: string;
  facts?: Readonly<Record<string, string | number | boolean>>;
  personal?: Readonly<Record<string, string>>;
}

const schemaOf = (action: string): ActionSchema | undefined =>
  Object.hasOwn(ACTIONS, action) ? ACTIONS[action as AuditAction] : undefined;

/** The version of an action's schema as it is now. */
export const schemaVersion = (action: AuditAction): number => schemaOf(action)?.v ?? 1;

/** What is wrong with an event by its action's schema, or undefined. Names members, never values. */
export function inadmissible(event: PlainEvent): string | undefined {
  const schema = schemaOf(event.action);
  if (!schema) return `the log knows no action "${event.action}"`;
  const { reason, facts = {}, personal = {} } = event;
  if (reason !== undefined && !REASON.test(reason)) return `${event.action}: its reason is no code`;
  for (const name of ['employee', 'device', 'key', 'subject', 'request'] as const) {
    const id = event[name];
    if (id !== undefined && !ID.test(id)) return `${event.action}: ${name} is no id`;
  }
  if (event.actor.id !== undefined && !ID.test(event.actor.id)) return `${event.action}: the actor's id is none`;
  for (const [name, value] of Object.entries(facts))
    if (!(schema.facts && Object.hasOwn(schema.facts, name) && schema.facts[name]?.is(value)))
      return `${event.action}: the fact "${name}" is not as its schema says`;
  for (const name of Object.keys(personal))
    if (!(ANYWHERE as readonly string[]).includes(name) && !schema.personal?.includes(name))
      return `${event.action}: its schema has no personal value "${name}"`;
  return undefined;
}
