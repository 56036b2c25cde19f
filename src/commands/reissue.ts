import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfiguration } from '../configuration/index.js';
import { recall } from '../custody/index.js';
import { Fault } from '../foundation/index.js';
import { type House, type Installation, openHouse, placesOf, tokenSettings } from '../house.js';
import { type CustodyPlan, parsePackage } from '../tokens/index.js';
import { operator } from './act-desk.js';
import { minutesInto } from './ceremony.js';
import { ceremonyOf, digestOfPlan, PERMIT, type Permit } from './custodian-acts.js';
import { lockHome } from './lock.js';
import { shareLine } from './restore-token.js';
import { askTokenProgram } from './token-program.js';

/**
 * Puts other custodians, or other shares, in the place of those there are. The shares go to the token process's own program and to nobody else. Told again
 * after a crash it finishes. Wants the appliance stopped. Throws `reissue-not-permitted`, and the faults of shares.
 */
export async function reissue(
  { home, plan, out, shares, present }: { home: string; plan: CustodyPlan; out: string; shares: string[]; present: string[] },
  installation: Installation,
): Promise<{ ceremony: string; minutes: string }> {
  const configuration = loadConfiguration(home);
  const unlock = lockHome(home);
  try {
    const known = await withHouse((house) => permitted(house, plan));
    if (known.former === known.now) {
      if (configuration.token.socket !== undefined)
        throw new Fault(
          'conflict',
          'token-elsewhere',
          `the token is in another user’s hands: as that user, while it is stopped: ekms token reissue --share FILE… --shares FOLDER; then start it and say this again`,
        );
      mkdirSync(out, { recursive: true, mode: 0o700 });
      await askTokenProgram(
        'reissue',
        { token: tokenSettings(configuration, installation), shares: shares.map(shareLine), plan, out },
        placesOf(configuration, installation).tokenEntry,
      );
    }
    return await withHouse((house) => finish(house, known, out, present));
  } finally {
    unlock();
  }

  async function withHouse<T>(work: (house: House) => Promise<T>): Promise<T> {
    const house = await openHouse(configuration, installation);
    try {
      return await work(house);
    } finally {
      await house.close();
    }
  }
}

async function permitted(house: House, plan: CustodyPlan): Promise<Permit & { now: string }> {
  const known = await recall<Permit>(house.storage, PERMIT);
  const now = await ceremonyOf(house);
  if (known?.plan !== digestOfPlan(plan) || (known.former === now && known.until < house.clock.now().getTime()))
    throw new Fault(
      'forbidden',
      'reissue-not-permitted',
      'that these are to be the custodians was not decided, or too long ago: ekms custody permit with the same custodians first',
    );
  return { ...known, now };
}

async function finish(house: House, { former }: Permit, out: string, present: string[]): Promise<{ ceremony: string; minutes: string }> {
  const { storage, audit, clock } = house;
  const minutes = join(out, 'minutes.pdf');
  const digest = existsSync(minutes)
    ? undefined
    : await minutesInto(house, out, present, [
        {
          time: clock.now().toISOString(),
          done: `the shares of ceremony ${Buffer.from(former, 'base64url').toString('hex')} were replaced by these`,
        },
        { time: clock.now().toISOString(), done: 'each copy was sealed anew inside the token and opened once with recombined shares' },
      ]);
  const ceremony = await ceremonyOf(house);
  const shares = parsePackage((await house.token.custody()) ?? '').package;
  await storage.write(async (unit) => {
    await unit.run('DELETE FROM settings WHERE name = ?', [PERMIT]);
    await audit.append(unit, {
      action: 'custody.reissue',
      outcome: 'done',
      actor: operator(),
      facts: { ceremony, former, threshold: shares.threshold, shares: shares.shares.length, ...(digest ? { minutes: digest } : {}) },
    });
  });
  return { ceremony, minutes };
}
