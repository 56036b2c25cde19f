import { forgetExpired } from './access/index.js';
import type { House } from './house.js';

/** A piece of the work that nobody waits for, and what it is called where it fails. */
export type Step = readonly [part: string, act: () => Promise<unknown>];

/** Rotations that were begun and are not over: looked at when serving begins, too. */
export const rotationsOf = (house: House): Step[] => [
  ['rotation of token keys', () => house.tokenKeys.resume()],
  ['end of an authority', () => house.authorityRetirement.resume()],
  ['rotation of the key of the log', () => house.auditKeyRotation.resume()],
];

/** What is done every hour. @param tls of this process, which alone knows what its listeners show */
export const upkeepOf = (house: House, tls: Step): Step[] => [
  ...rotationsOf(house),
  tls,
  ['revocation lists', () => house.revocations.publishDue()],
  ['kept deliveries', () => house.vault.forgetDeliveries(house.configuration.keys.keepDeliveriesDays)],
  ['what has expired', () => forgetExpired(house.storage, house.clock.now().getTime())],
  ['sealed entries', () => house.sealedEntries.unsealDue()],
  ['retention of keys', () => house.lives.destroyDue()],
  ['pruning of the log', () => house.pruning.resume()],
  ['backup', () => house.backups.createDue()],
  ['archive of heads', () => house.headArchive.sendDue()],
  ['time stamps', () => house.timeStamps.stampDue()],
  ['what has expired of staff', () => house.staff.forgetExpired()],
  // Last: it reads from a share, which may be slow.
  ['copy of the log', () => readCopyAgain(house)],
];

/** That the place is away it says by itself. */
async function readCopyAgain({ logCopy, second }: House): Promise<void> {
  if (second.trouble === undefined) await logCopy?.readAgain();
}

/**
 * Each by itself: what cannot be done now (the log is in breach, no witness answers) is told, is asked again the next time, and keeps nothing else
 * from being done.
 */
export async function inTurn(steps: readonly Step[], defect: (error: unknown, part: string) => void): Promise<void> {
  for (const [part, act] of steps)
    try {
      await act();
    } catch (error) {
      defect(error, part);
    }
}
