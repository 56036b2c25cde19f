import type { House } from '../house.js';
import { type Finding, Findings } from './finding.js';

/** A stamp is asked for once an hour where it is due, and not while nothing happens. */
const LATE_HOURS = 24;

/** Whether anybody outside remembers the log. */
export async function examineWitnesses({ witnesses, timeStamps, clock, configuration, token, logStanding }: House): Promise<Finding[]> {
  const findings = new Findings('witnesses');
  const { readable, unreachable } = configuration.witnesses;
  const { algorithm } = await token.signingKey('audit');
  if (logStanding.breach) findings.say('bad', `no keys are served: ${logStanding.breach.words} (${logStanding.breach.code})`);
  if (readable.length === 0)
    findings.say(
      'warn',
      'nobody outside remembers the log: older copies of database and token together would not be noticed (witnesses.readable)',
    );
  if (algorithm !== 'ed25519')
    findings.say(
      readable.some((one) => 'url' in one) ? 'bad' : 'warn',
      'no C2SP witnesses: this token signs heads by ECDSA, and they take Ed25519 only',
    );
  const { timestamp } = configuration.witnesses;
  const stamped = (await timeStamps.all()).at(-1)?.made ?? 0;
  if (timestamp && clock.now().getTime() - stamped > (timestamp.everyHours + LATE_HOURS) * 3_600_000)
    findings.say(
      'warn',
      `the log has no time stamp of the last ${timestamp.everyHours} hours (witnesses.timestamp; entries audit.timestamp say why)`,
    );
  await witnesses.first();
  for (const { name, state, reason } of witnesses.states)
    if (state !== 'agrees')
      findings.say(state === 'disagrees' || unreachable === 'wait' ? 'bad' : 'warn', `${name}: ${reason ?? 'was not asked yet'}`);
  return findings.end(`${witnesses.states.map(({ name }) => name).join(', ')}: each remembers this very log`);
}

/** Whose logs are remembered here. */
export async function examineWitnessing({ witnessedLogs, configuration, token }: House): Promise<Finding[]> {
  const findings = new Findings('witnessing');
  const { logs } = configuration.witnessing;
  if (logs.length === 0) return [];
  if ((await token.signingKey('audit')).algorithm !== 'ed25519')
    findings.say('bad', 'no head of another appliance is cosigned: this token has no Ed25519 (witnessing.logs)');
  const heads = await witnessedLogs.heads();
  for (const { origin, size } of heads) if (size === 0) findings.say('warn', `${origin} has shown no head here yet`);
  return findings.end(`remembered here: ${heads.map(({ origin, size }) => `${origin} up to ${size} entries`).join(', ')}`);
}
