import type { House } from '../house.js';
import { type Finding, Findings } from './finding.js';

/** Whether anybody outside remembers the log. */
export async function examineWitnesses({ witnesses, configuration, token, logStanding }: House): Promise<Finding[]> {
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
  await witnesses.first();
  for (const { name, state, reason } of witnesses.states)
    if (state !== 'agrees')
      findings.say(state === 'disagrees' || unreachable === 'wait' ? 'bad' : 'warn', `${name}: ${reason ?? 'was not asked yet'}`);
  return findings.end(`${witnesses.states.map(({ name }) => name).join(', ')}: each remembers this very log`);
}
