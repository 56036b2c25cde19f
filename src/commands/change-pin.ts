import { loadConfiguration } from '../configuration/index.js';
import { Fault } from '../foundation/index.js';
import { type Installation, openHouse, placesOf, tokenSettings } from '../house.js';
import { operator } from './act-desk.js';
import { lockHome } from './lock.js';
import { askTokenProgram } from './token-program.js';

/** Has the token's own program change the PIN, which nobody here sees, and opens the appliance by it before it says so. */
export async function changePin(home: string, installation: Installation): Promise<string> {
  const configuration = loadConfiguration(home);
  const { socket, pinFile } = configuration.token;
  if (socket !== undefined)
    throw new Fault(
      'conflict',
      'token-elsewhere',
      'the token is in another user’s hands: as that user, while it is stopped: ekms token pin change --settings /etc/ekms/token.yaml --new-pin-file FILE',
    );
  const unlock = lockHome(home);
  try {
    await askTokenProgram('pin', { token: tokenSettings(configuration, installation) }, placesOf(configuration, installation).tokenEntry);
    const house = await openHouse(configuration, installation);
    try {
      await house.storage.write((unit) => house.audit.append(unit, { action: 'token.pin', outcome: 'done', actor: operator() }));
    } finally {
      await house.close();
    }
    return `the token has a new PIN, in ${pinFile}`;
  } finally {
    unlock();
  }
}
