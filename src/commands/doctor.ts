import { X509Certificate } from 'node:crypto';
import { statSync } from 'node:fs';
import { checkLog } from '../audit/index.js';
import { isAhead, serialOf } from '../certificates/index.js';
import type { Configuration } from '../configuration/index.js';
import { CUSTODY_SETTINGS, packageBeside, recall } from '../custody/index.js';
import { readLastSync } from '../directory/index.js';
import { isFault } from '../foundation/index.js';
import type { House } from '../house.js';
import { authorityId, heldGenerations, parsePackage, pinPlace } from '../tokens/index.js';
import { checkData } from './consistency.js';
import { examineCustody } from './doctor-custody.js';
import { examineFormer } from './doctor-former.js';
import { examineWitnesses, examineWitnessing } from './doctor-witnesses.js';
import { examinePeople } from './examine-people.js';
import { type Finding, Findings } from './finding.js';

/** Runs one check. An outage is a finding, not the end of the others. */
async function look(check: string, at: () => Promise<Finding[]> | Finding[]): Promise<Finding[]> {
  try {
    return await at();
  } catch (error) {
    if (!isFault(error)) throw error;
    return [{ check, verdict: 'bad', words: `could not be looked at: ${error.message} (${error.code})` }];
  }
}

/** All that `ekms doctor` has to say of an appliance; with `data`, of its log and its tables only. */
export async function examine(house: House, { data = false }: { data?: boolean } = {}): Promise<Finding[]> {
  const { storage, token } = house;
  return [
    ...(data ? [] : examineConfiguration(house.configuration)),
    ...(data
      ? []
      : await look('token', async () => (await token.inspect()).map(({ check, ...rest }) => ({ check: `token ${check}`, ...rest })))),
    ...(data ? [] : await look('health', () => examineHealth(house))),
    ...(data ? [] : await look('revocation lists', () => examineLists(house))),
    ...(data ? [] : await look('certificates of the appliance', () => examineOwnCertificates(house))),
    ...(data ? [] : await look('custody', () => examineCustody(house))),
    ...(data ? [] : await look('former keys', () => examineFormer(house))),
    ...(data ? [] : await look('isolation', () => examineIsolation(house))),
    ...(data ? [] : await look('mail queue', () => examineMail(house))),
    ...(data ? [] : await look('forwarding', () => examineForwarding(house))),
    ...(data ? [] : await look('two persons', () => examinePeople(house))),
    ...(data ? [] : await look('directory', () => examineDirectory(house))),
    ...(data ? [] : await look('witnesses', () => examineWitnesses(house))),
    ...(data ? [] : await look('witnessing', () => examineWitnessing(house))),
    ...(await look('log', async () => {
      const { size, problems } = await checkLog(storage);
      const findings = new Findings('log');
      for (const problem of problems) findings.say('bad', problem);
      return findings.end(`${size} entries, whole from the first to the last; a cut with head and counters cannot be seen from here`);
    })),
    ...(await look('data', () => checkData(storage, token))),
  ];
}

/** Whoever may enter the home is the operator (SECURITY.md), so nobody else may: what lies in it is guarded by that alone. */
function examineHome(home: string, holdsToken: boolean): Finding[] {
  const mode = statSync(home).mode & 0o777;
  // As two units it is root’s, and the service’s by its group.
  if ((mode & (holdsToken ? 0o077 : 0o007)) === 0) return [];
  const words = `others on this machine may enter ${home} (mode ${mode.toString(8)}), where keys and control socket lie: chmod ${holdsToken ? '700' : 'o='} ${home}, and find out who could`;
  return [{ check: 'home', verdict: 'bad', words }];
}

/** What can be said without opening anything. */
export function examineConfiguration({ home, token, mail, enrolment, database }: Configuration): Finding[] {
  return [
    // Behind a socket another user keeps the PIN; the token process says itself where.
    ...(token.socket === undefined ? [{ check: 'PIN', ...pinPlace(token.pinFile) }] : []),
    ...examineHome(home, token.socket === undefined),
    mail.transport === 'maildir'
      ? { check: 'mail', verdict: 'warn', words: 'mail goes to Maildir folders on this machine: for evaluation only' }
      : {
          check: 'mail',
          verdict: mail.tls === 'none' ? 'warn' : 'good',
          words: mail.tls === 'none' ? `mail goes to ${mail.host} without TLS` : `mail goes to ${mail.host} over TLS`,
        },
    enrolment.second === 'none'
      ? {
          check: 'second proof',
          verdict: 'warn',
          words: 'who reads a mailbox can enrol a device of its owner (enrolment.second: none): for evaluation only',
        }
      : {
          check: 'second proof',
          verdict: 'good',
          words: `a further device needs more than the mailbox (enrolment.second: ${enrolment.second})`,
        },
    database.url.startsWith('sqlite:')
      ? { check: 'database', verdict: 'good', words: `SQLite in ${home}` }
      : { check: 'database', verdict: 'good', words: 'PostgreSQL' },
  ];
}

async function examineHealth({ health, clock, storage }: House): Promise<Finding[]> {
  const { token, database, pool } = await health.report();
  const findings: Finding[] = [
    token.state === 'ready'
      ? { check: 'token', verdict: 'good', words: `answers; it was lost and found again ${token.recoveries} times since the start` }
      : { check: 'token', verdict: 'bad', words: `is ${token.state}: ${token.reason ?? 'it does not say why'}` },
    database.state === 'ready'
      ? { check: 'database', verdict: 'good', words: 'takes writes' }
      : { check: 'database', verdict: 'bad', words: `takes no writes (${database.reason})` },
    {
      check: 'ready pool',
      verdict: pool.level === 0 && pool.target > 0 ? 'warn' : 'good',
      words: `${pool.level} of ${pool.target} pairs are ready${pool.level === 0 ? '; new people wait for their key' : ''}`,
    },
  ];
  const now = clock.now().getTime();
  const open = await storage.all<{ kind: string; open: number; oldest: number }>(
    'SELECT kind, COUNT(*) AS "open", MIN(created) AS "oldest" FROM intents GROUP BY kind ORDER BY kind',
  );
  const stuck = open.filter(({ oldest }) => now - oldest > 60_000);
  for (const { kind, open: count, oldest } of stuck)
    findings.push({
      check: 'open intents',
      verdict: 'warn',
      words: `${count} × ${kind}, the oldest for ${Math.round((now - oldest) / 60_000)} min${kind === 'give-key' ? ': fill the pool' : ': the next start finishes or undoes them'}`,
    });
  if (stuck.length === 0) findings.push({ check: 'open intents', verdict: 'good', words: 'nothing begun was left unfinished' });
  return findings;
}

async function examineForwarding({ forwarder }: House): Promise<Finding[]> {
  const findings = new Findings('forwarding');
  const states = await forwarder.states();
  for (const { sink, state, behind, reason } of states)
    if (state === 'failing')
      findings.say('bad', `the sink “${sink}” takes nothing (${reason}); ${behind} entries wait for it and none is lost`);
  return findings.end(states.length === 0 ? 'the log is sent nowhere else' : `${states.length} sinks take the log`);
}

async function examineIsolation({ isolation }: House): Promise<Finding[]> {
  const findings = new Findings('isolation');
  for (const { words } of await isolation.look()) findings.say(isolation.mode === 'enforce' ? 'bad' : 'warn', words);
  return findings.end('no way out of network.internal was found');
}

async function examineLists({ storage, clock, authorities }: House): Promise<Finding[]> {
  const findings = new Findings('revocation lists');
  const lists = new Map(
    (await storage.all<{ authority: string; next_update: number; der: Buffer }>('SELECT authority, next_update, der FROM crls')).map(
      (row) => [row.authority, row],
    ),
  );
  const now = clock.now().getTime();
  for (const authority of authorities.all) {
    const name = authorityId(authority);
    const list = lists.get(name);
    const until = list?.next_update ?? 0;
    if (!list) findings.say('bad', `the authority “${name}” has none`);
    else if (isAhead(list.der, now))
      findings.say(
        authority.state === 'retired' ? 'warn' : 'bad',
        `that of the authority “${name}” was made while the clock was ahead, and counts only once its time has come; a running appliance makes another, but for one that is retired`,
      );
    else if (authority.state !== 'retired' && until <= now)
      findings.say('bad', `that of the authority “${name}” ended ${new Date(until).toISOString()}; a running appliance renews it`);
  }
  return findings.end('each authority has one that is in force');
}

/** Days before its end at which an authority's certificate is worth a word: what it issues must end before it. */
const AUTHORITY_DAYS = 800;
/** An authority is at most so many milliseconds younger than its certificate says: five minutes early, in whole seconds (codec/x509). */
const LEAD_MS = 301_000;

/** Generations that a restore of an older backup would have from the second place. It lacks the certificate of one that took over in a version before it held any. */
async function generationsBeside({ token, configuration: { durability, escrow } }: House): Promise<ReadonlySet<string>> {
  const text = durability === 'two' ? await token.custody() : null;
  if (text === null || !escrow) return new Set();
  try {
    const beside = packageBeside(escrow.directory, parsePackage(text).package)?.package;
    return new Set(heldGenerations(beside ?? { keys: [] }).map(authorityId));
  } catch (error) {
    if (!isFault(error)) throw error;
    return new Set(); // what is wrong with the place, its own check says
  }
}

async function examineOwnCertificates(house: House): Promise<Finding[]> {
  const { authorities, configuration, storage, clock } = house;
  const findings = new Findings('certificates of the appliance');
  const now = clock.now().getTime();
  const backup = await recall<{ time: number }>(storage, CUSTODY_SETTINGS.backup);
  const ended = await storage.all<{ serial: string }>(
    "SELECT serial FROM certificates WHERE profile = 'authority' AND revoked_at IS NOT NULL",
  );
  const beside = await generationsBeside(house);
  const revoked = new Set(ended.map(({ serial }) => serial));
  for (const authority of authorities.all) {
    const name = authorityId(authority);
    if (authority.state === 'retired') continue;
    if (revoked.has(serialOf(authority.certificate)))
      findings.say(
        'bad',
        `the authority “${name}” is on the root’s list and still here: ${authority.state === 'serving' ? `ekms ca rotate ${authority.name}, then ` : ''}ekms ca retire ${name} --revoke`,
      );
    const left = (new X509Certificate(authority.certificate).validToDate.getTime() - now) / 86_400_000;
    // A restore of an older backup would not know it, but by the second place.
    if (
      !beside.has(name) &&
      authority.n > 1 &&
      backup &&
      backup.time < new X509Certificate(authority.certificate).validFromDate.getTime() + LEAD_MS
    )
      findings.say('warn', `the authority “${name}” is newer than the last backup: ekms backup create`);
    if (left <= 0) findings.say('bad', `the authority “${name}” has ended`);
    else if (left < AUTHORITY_DAYS) findings.say('warn', `the authority “${name}” ends in ${Math.floor(left)} days`);
  }
  const known = new Set(authorities.all.map(authorityId));
  const signers = await storage.all<{ authority: string; n: number }>(
    'SELECT authority, COUNT(*) AS "n" FROM certificates WHERE profile <> \'imported\' AND revoked_at IS NULL AND not_after > ? GROUP BY authority',
    [now],
  );
  for (const { authority, n } of signers)
    if (!known.has(authority))
      findings.say(
        'warn',
        `${n} certificates were signed by the authority “${authority}”, which is not known here since a restore from before it took over, and clients refuse them: current keys are certified anew by the next renewal, former ones take a recovery case`,
      );
  const signing = await storage.one(
    "SELECT serial FROM certificates WHERE profile = 'mail-signing' AND address = ? AND revoked_at IS NULL AND not_after > ?",
    [configuration.mail.from, now],
  );
  if (!signing && (await storage.one('SELECT id FROM mails LIMIT 1')))
    findings.say('warn', 'there is no valid certificate for signing mail; one is made with the next mail');
  return findings.end('the authorities are in force, mail can be signed');
}

async function examineMail({ storage, clock }: House): Promise<Finding[]> {
  const now = clock.now().getTime();
  const findings = new Findings('mail queue');
  const late = await storage.one<{ late: number }>(
    'SELECT COUNT(*) AS "late" FROM mails WHERE state = \'queued\' AND claimed_until IS NOT NULL AND claimed_until < ?',
    [now - 60_000],
  );
  if (late && late.late > 0)
    findings.say('warn', `${late.late} mails were being delivered when a process died; a running appliance reports them as failed`);
  const failing = await storage.one<{ failing: number; why: string | null }>(
    'SELECT COUNT(*) AS "failing", MAX(error) AS "why" FROM mails WHERE state = \'queued\' AND attempts > 2',
    [],
  );
  if (failing && failing.failing > 0)
    findings.say(
      'warn',
      `${failing.failing} mails were tried three times and more (${failing.why ?? 'no reason given'}): is the mail server up?`,
    );
  return findings.end('no mail is stuck');
}

/** Runs that may fail one after another before it is worth a word. */
const MISSED_RUNS = 3;

async function examineDirectory({ storage, clock, configuration }: House): Promise<Finding[]> {
  if (!configuration.directory) return [];
  const findings = new Findings('directory');
  const last = await readLastSync(storage);
  const patience = MISSED_RUNS * configuration.directory.everyMinutes * 60_000;
  if (last?.reason === 'directory-losses')
    findings.say('bad', 'it would stop unusually many people, so nothing is done: look at ekms directory sync --dry-run');
  else if (last === undefined || clock.now().getTime() - (last.doneAt ?? 0) > patience)
    findings.say('bad', `its last run that was done is too long ago (${last?.reason ?? 'there was none'}): leavers are not stopped by it`);
  if (last && last.questions > 0)
    findings.say('warn', `${last.questions} questions that only a person can decide: ekms directory sync --dry-run lists them`);
  return findings.end(`people are as it has them; last run ${new Date(last?.doneAt ?? 0).toISOString()}`);
}
