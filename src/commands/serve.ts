import { existsSync, realpathSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { ROUTE_CLASSES } from '../access/index.js';
import { type Appliance, startAppliance } from '../appliance.js';
import { loadConfiguration } from '../configuration/index.js';
import { settleMigration } from '../custody/index.js';
import { base64url, Fault, sha256 } from '../foundation/index.js';
import { type House, type Installation, openHouse, type Parts, placesOf } from '../house.js';
import { Nodes } from '../storage/index.js';
import { ActDesk } from './act-desk.js';
import { serveControl } from './control.js';
import { lockHome } from './lock.js';
import { reconcile } from './reconcile.js';

/** Milliseconds after which an intent is nobody's any more; calls end within seconds. */
const ABANDONED = 120_000;

export function requireInitialised(home: string, root: string): void {
  if (!existsSync(root))
    throw new Fault('misconfigured', 'not-initialised', `${home} has not been initialised: run ekms init --domain corp.example first`);
}

/** Runs until SIGTERM or SIGINT. Prints one line beginning with `ready` once it serves. @param parts as `openHouse` takes them */
export async function serve(home: string, installation: Installation, say: (line: string) => void, parts?: Parts): Promise<void> {
  const configuration = loadConfiguration(home);
  requireInitialised(home, placesOf(configuration, installation).rootCertificate);
  const unlock = lockHome(home);
  try {
    const house = await openHouse(configuration, installation, parts);
    const nodes = nodeOf(house, home);
    try {
      await settleMigration(house, configuration.token.label, { kind: 'system' });
      const isAlone = (await nodes?.join()) ?? true;
      // What is cut in half may be what another node is just doing: that is left to it, and what is nobody's to the healing below.
      await reconcile(house, isAlone ? 0 : ABANDONED);
      if (isAlone) await new ActDesk(house).resume();
      const defect = (error: unknown, request: string) => console.error(`defect in ${request}:`, error);
      const appliance = await startAppliance(house, defect, (line) => console.error(`ekms: ${line}`));
      // A commit whose outcome was never learned leaves an intent behind; nothing that is under way is as old as this.
      const healing = setInterval(() => void reconcile(house, ABANDONED).catch((error: unknown) => defect(error, 'reconcile')), ABANDONED);
      try {
        const stopControl = await serveControl(house, home);
        await house.storage.write((unit) =>
          house.audit.append(unit, { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } }),
        );
        if (configuration.mail.transport === 'maildir') say('mail goes to Maildir folders: for evaluation only, not for production');
        const told = new Promise<void>((resolve) => {
          for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
        });
        // Whoever hears this may end it at once, in an orderly way.
        say(`ready ${placesInWords(appliance.places, configuration.publicName)}`);
        await told;
        await stopControl();
      } finally {
        clearInterval(healing);
        await appliance.close();
      }
      await house.storage
        .write((unit) => house.audit.append(unit, { action: 'appliance.stop', outcome: 'done', actor: { kind: 'system' } }))
        .catch(() => {});
    } finally {
      await nodes?.leave();
      await house.close();
    }
  } finally {
    unlock();
  }
}

/** Only a database server can have several nodes; the home's lock says that no other has this name. */
function nodeOf({ configuration, storage, clock }: House, home: string): Nodes | undefined {
  if (configuration.database.url.startsWith('sqlite:')) return undefined;
  return new Nodes(storage, clock, base64url(sha256(`${hostname()}\0${realpathSync(home)}`)));
}

/** `client=https://… administration=https://… …`: by the public name, but operation, which is asked on this machine, by its address. */
function placesInWords(places: Appliance['places'], publicName: string): string {
  return ROUTE_CLASSES.map((kind) => {
    const { host, port } = places[kind];
    const scheme = kind === 'public' || kind === 'operation' ? 'http' : 'https';
    return `${kind}=${scheme}://${kind !== 'operation' ? publicName : isIPv6(host) ? `[${host}]` : host}:${port}`;
  }).join(' ');
}
