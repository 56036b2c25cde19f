import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pem } from '../certificates/index.js';
import {
  type Configuration,
  configurationFile,
  freshConfiguration,
  loadConfiguration,
  parseConfiguration,
} from '../configuration/index.js';
import { Fault } from '../foundation/index.js';
import { type Installation, openHouse, placesOf, tokenSettings } from '../house.js';
import type { CustodyPlan } from '../tokens/index.js';
import { lockHome } from './lock.js';
import { askTokenProgram } from './token-program.js';
import { tokenRequest } from './token-request.js';

export interface InitOptions {
  organisation?: string;
  /** Custodians, and the folder that their shares are written into. */
  custody?: { plan: CustodyPlan; out: string };
  say: (line: string) => void;
}

/**
 * The home's `ekms.yaml`, which is written where there is none. A file that exists is never changed: what is asked for must stand in it.
 * Throws `domain-missing`, `domain-differs`, `public-name-differs`, `configuration-invalid`.
 */
export function configureHome(home: string, domains: readonly string[], publicName?: string): Configuration {
  const file = configurationFile(home);
  if (!existsSync(file)) {
    if (domains.length === 0)
      throw new Fault('misconfigured', 'domain-missing', 'say which mail domain this appliance serves: --domain corp.example');
    const text = freshConfiguration(domains, publicName);
    parseConfiguration(text, home); // what cannot be used is not left behind
    writeFileSync(file, text, { mode: 0o600, flag: 'wx' });
  }
  const configuration = loadConfiguration(home);
  if (configuration.domains.length === 0)
    throw new Fault('misconfigured', 'domain-missing', 'ekms.yaml names no mail domain: add domains: [corp.example]');
  const other = domains.filter((domain) => !configuration.domains.includes(domain.toLowerCase()));
  if (other.length > 0)
    throw new Fault(
      'misconfigured',
      'domain-differs',
      `ekms.yaml exists and does not name ${other.join(', ')}: add it there, or leave --domain away`,
    );
  if (publicName !== undefined && configuration.publicName !== publicName)
    throw new Fault(
      'misconfigured',
      'public-name-differs',
      `ekms.yaml exists and says publicName: ${configuration.publicName}: change it there, or leave --public-name away`,
    );
  return configuration;
}

/** Makes configuration, token, KEK, authorities and database, in this order; refuses whatever exists already. With `token.socket`, the token is there. */
export async function init(
  options: InitOptions & { home: string; domains: string[]; publicName?: string },
  installation: Installation,
): Promise<void> {
  mkdirSync(options.home, { recursive: true, mode: 0o700 });
  const unlock = lockHome(options.home);
  try {
    await initConfigured(configureHome(options.home, options.domains, options.publicName), options, installation);
  } finally {
    unlock();
  }
}

/** The same for a home that has its `ekms.yaml`, held by whoever asks. */
export async function initConfigured(
  configuration: Configuration,
  { organisation, custody, say }: InitOptions,
  installation: Installation,
): Promise<void> {
  const { home } = configuration;
  const places = placesOf(configuration, installation);
  if (existsSync(places.rootCertificate))
    throw new Fault('conflict', 'already-initialised', `${home} has been initialised already; nothing was changed`);
  // Stands from before the token is made until all is done: an init that was cut in between goes on where it was.
  const unfinished = join(home, 'init-unfinished');
  if (configuration.token.socket !== undefined) say('the token is in another user’s hands (token.socket)');
  else if (existsSync(unfinished) && existsSync(places.tokenState)) say('going on with an init that was cut: the token has been made');
  else {
    say('making token, key-encryption key and authorities');
    const fresh = !existsSync(places.tokenState); // else makeToken refuses, and goes on refusing
    if (fresh) writeFileSync(unfinished, '', { mode: 0o600 });
    try {
      await askTokenProgram(
        'init',
        {
          token: tokenSettings(configuration, installation),
          ...(configuration.token.profile === 'softhsm' ? { softhsmTokens: placesOf(configuration, installation).softhsm.tokens } : {}),
          kekHelper: places.kekHelper,
          ...tokenRequest(configuration, organisation),
          ...(custody ? { custody } : {}),
        },
        places.tokenEntry,
      );
    } catch (error) {
      if (fresh) rmSync(unfinished);
      throw error;
    }
  }
  say('making the database');
  const house = await openHouse(configuration, installation);
  try {
    await house.storage.write(async (unit) => {
      if (await unit.one('SELECT label FROM tokens')) return; // an init that was cut came this far
      await unit.run('INSERT INTO tokens (label, module, created) VALUES (?, ?, ?)', [
        configuration.token.label,
        configuration.token.module,
        house.clock.now().getTime(),
      ]);
      await house.audit.append(unit, {
        action: 'appliance.init',
        outcome: 'done',
        actor: { kind: 'operator' },
      });
    });
    await house.revocations.publishDue();
    const half = `${places.rootCertificate}.new`;
    writeFileSync(half, pem(house.authorities.root), { mode: 0o644 });
    renameSync(half, places.rootCertificate);
    rmSync(unfinished, { force: true });
  } finally {
    await house.close();
  }
}
