import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { startAppliance } from '../../src/appliance.js';
import { serveControl } from '../../src/commands/control.js';
import { lockHome } from '../../src/commands/lock.js';
import { reconcile } from '../../src/commands/reconcile.js';
import { loadConfiguration } from '../../src/configuration/index.js';
import { openHouse, placesOf, tokenSettings } from '../../src/house.js';
import { MaildirTransport } from '../../src/mail/index.js';
import { openStorage } from '../../src/storage/index.js';
import { TokenProcess } from '../../src/tokens/index.js';
import { CrashingStorage, CrashingTransport, crashingToken, type Plan, Trap } from './crashing-parts.js';

const installation = { root: resolve(import.meta.dirname, '../..') };

async function serve(home: string, mark: string, plan: Plan | undefined): Promise<void> {
  const configuration = loadConfiguration(home);
  if (configuration.mail.transport !== 'maildir') throw new Error('a campaign reads its mail from Maildirs');
  lockHome(home);
  const trap = new Trap(plan, mark);
  const token = new TokenProcess({
    entry: placesOf(configuration, installation).tokenEntry,
    settings: tokenSettings(configuration, installation),
  });
  await token.start();
  const parts = {
    storage: new CrashingStorage(await openStorage({ url: configuration.database.url, home }), trap),
    token: crashingToken(token, trap),
    transport: new CrashingTransport(new MaildirTransport(configuration.mail.directory), trap),
  };
  const house = await openHouse(configuration, installation, parts);
  await reconcile(house);
  const appliance = await startAppliance(house, (error, request) => console.error(`defect in ${request}:`, error));
  await serveControl(house, home);
  process.once('SIGTERM', () => {
    writeFileSync(mark, JSON.stringify(Object.fromEntries(trap.counts)));
    process.kill(process.pid, 'SIGKILL');
  });
  trap.serving();
  console.log(`ready ${appliance.places.client?.port}`);
}

createInterface({ input: process.stdin }).once('line', (line) => {
  const { home, mark, plan } = JSON.parse(line) as { home: string; mark: string; plan?: Plan }; // the campaign wrote it
  void serve(home, mark, plan).catch((error: unknown) => {
    console.error('the crashing appliance did not start:', error);
    process.exit(1);
  });
});
