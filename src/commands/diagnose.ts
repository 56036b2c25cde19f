import { loadConfiguration } from '../configuration/index.js';
import { Fault, isFault } from '../foundation/index.js';
import { type Installation, openHouse, placesOf } from '../house.js';
import { askAppliance } from './ask-appliance.js';
import { examine, examineConfiguration } from './doctor.js';
import type { Finding } from './finding.js';
import { lockHome } from './lock.js';
import { requireInitialised } from './serve.js';

const MARK = { good: 'good', warn: 'WARN', bad: 'BAD ' } as const;

/** `ekms doctor`: asks the running appliance, or looks by itself. Throws `doctor-bad` after everything was said, so that the exit status tells. */
export async function diagnose(
  home: string,
  { data, json }: { data: boolean; json: boolean },
  installation: Installation,
  say: (text: string) => void,
): Promise<void> {
  const answered = await askAppliance(home, 'doctor', { data });
  const findings = answered ? (answered.value as Finding[]) : await alone(home, data, installation); // `examine` made it, on the other side of the socket
  const bad = findings.filter(({ verdict }) => verdict === 'bad').length;
  if (json) say(JSON.stringify({ verdict: bad > 0 ? 'bad' : 'good', findings }, null, 2));
  else for (const { check, verdict, words } of findings) say(`${MARK[verdict]}  ${check}: ${words}`);
  if (bad > 0) throw new Fault('conflict', 'doctor-bad', bad === 1 ? 'one finding is bad' : `${bad} findings are bad`);
}

async function alone(home: string, data: boolean, installation: Installation): Promise<Finding[]> {
  const configuration = loadConfiguration(home);
  requireInitialised(home, placesOf(configuration, installation).rootCertificate);
  const unlock = lockHome(home);
  try {
    const house = await openHouse(configuration, installation);
    try {
      return await examine(house, { data });
    } finally {
      await house.close();
    }
  } catch (error) {
    if (!isFault(error)) throw error;
    return [
      ...examineConfiguration(configuration),
      {
        check: 'start',
        verdict: 'bad',
        words: `this appliance cannot start: ${error.message} (${error.code}); nothing else was looked at`,
      },
    ];
  } finally {
    unlock();
  }
}
