import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pem } from '../certificates/index.js';
import { configurationFile, freshConfiguration, loadConfiguration } from '../configuration/index.js';
import { Fault } from '../foundation/index.js';
import { type Installation, openHouse, placesOf, tokenSettings } from '../house.js';
import type { CustodyPlan } from '../tokens/index.js';
import { lockHome } from './lock.js';
import { askTokenProgram } from './token-program.js';
import { tokenRequest } from './token-request.js';

export interface InitOptions {
  home: string;
  domains: string[];
  organisation?: string;
  /** Custodians, and the folder that their shares are written into. */
  custody?: { plan: CustodyPlan; out: string };
  say: (line: string) => void;
}

/** Makes configuration, token, KEK, authorities and database, in this order; refuses whatever exists already. With `token.socket`, the token is there. */
export async function init({ home, domains, organisation, custody, say }: InitOptions, installation: Installation): Promise<void> {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const unlock = lockHome(home);
  try {
    if (!existsSync(configurationFile(home))) {
      if (domains.length === 0)
        throw new Fault('misconfigured', 'domain-missing', 'say which mail domain this appliance serves: ekms init --domain corp.example');
      writeFileSync(configurationFile(home), freshConfiguration(domains), { mode: 0o600, flag: 'wx' });
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
  } finally {
    unlock();
  }
}
