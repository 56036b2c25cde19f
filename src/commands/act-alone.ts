import { loadConfiguration } from '../configuration/index.js';
import { type Installation, openHouse, placesOf } from '../house.js';
import { ActDesk, operator, shown } from './act-desk.js';
import type { ActName } from './acts.js';
import { RequestFiled } from './ask-appliance.js';
import { lockHome } from './lock.js';
import { requireInitialised } from './serve.js';

/** Opens the house for one act, under the lock; for when no appliance is up. */
export async function actAlone(home: string, name: ActName, args: object, installation: Installation): Promise<unknown> {
  const configuration = loadConfiguration(home);
  requireInitialised(home, placesOf(configuration, installation).rootCertificate);
  const unlock = lockHome(home);
  try {
    const house = await openHouse(configuration, installation);
    try {
      const outcome = await new ActDesk(house).ask(name, args, operator());
      if ('request' in outcome) throw new RequestFiled(shown(outcome.request));
      return outcome.value;
    } finally {
      await house.mail.flush();
      await house.close();
    }
  } finally {
    unlock();
  }
}
