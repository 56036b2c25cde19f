import type { Former } from '../custody/index.js';
import type { House } from '../house.js';
import { authorityId, SUCCEEDING_AUTHORITIES } from '../tokens/index.js';
import { type Finding, Findings } from './finding.js';

/** Whether what rotations replaced is gone too. */
export async function examineFormer({ formerKeys, rotation, clock }: Pick<House, 'formerKeys' | 'rotation' | 'clock'>): Promise<Finding[]> {
  const findings = new Findings('former keys');
  const now = clock.now().getTime();
  for (const former of await formerKeys.list())
    findings.say('warn', `${wordsOf(former)}${lastingOf(former.since, now)}: ${remedyOf(former)}`);
  const { state, to, left, since } = await rotation.status();
  if (state === 'running')
    findings.say(
      'warn',
      `${left} keys and pairs are not under the key-encryption key ${to} yet${lastingOf(since, now)}: a running appliance goes on with them (ekms kek status)`,
    );
  return findings.end('nothing that was replaced still stands');
}

function wordsOf(former: Former): string {
  switch (former.kind) {
    case 'token':
      return `the token ${former.name}, which a migration left, still holds every key`;
    case 'kek':
      return `the key-encryption keys before ${former.name} still stand, with nothing under them`;
    case 'token-key':
      return `the former ${former.name} key (${former.numbers.join(', ')}) is still in the token`;
  }
}

function remedyOf(former: Former): string {
  switch (former.kind) {
    case 'token':
      return 'ekms backup create, then ekms token destroy-former';
    case 'kek':
      return 'ekms backup create, then ekms kek retire';
    case 'token-key':
      return remedyOfKey(former.name, former.numbers);
  }
}

/** A former authority signs its revocation list still, and goes when nothing that it signed counts any more. */
function remedyOfKey(name: string, numbers: readonly number[]): string {
  const authority = SUCCEEDING_AUTHORITIES.find((each) => each === name);
  if (!authority) return `ekms token retire ${name}`;
  const ends = numbers.map((n) => `ekms ca retire ${authorityId({ name: authority, n })}`);
  return `${ends.join(', ')}, when ekms ca list counts no certificate of it`;
}

function lastingOf(since: number | undefined, now: number): string {
  if (since === undefined) return ', nobody knows since when';
  const days = Math.floor((now - since) / 86_400_000);
  return days < 1 ? ', since less than a day' : days === 1 ? ', for a day' : `, for ${days} days`;
}
