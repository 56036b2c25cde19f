import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfiguration } from '../configuration/index.js';
import { openBackupFile } from '../custody/index.js';
import { Fault } from '../foundation/index.js';
import { type Installation, openHouse } from '../house.js';
import { examine } from './doctor.js';
import { type RestoreOptions, type RestoreReport, restore } from './restore.js';

export interface DrillReport extends RestoreReport {
  /** Had the appliance burnt when this drill began: what was done in so many seconds before would be lost (but for the second place)… */
  recoveryPoint: number;
  /** …and after so many it would have served again, every check of `ekms doctor --data` included. */
  recoveryTime: number;
  /** Bad findings of `ekms doctor --data` at the restored copy. */
  problems: string[];
}

/**
 * Restores a backup into a scratch place, as after a fire, looks at all of it and removes it. Into a SoftHSM of its own and SQLite, whatever the
 * appliance has: nothing of the living one is touched.
 * @param scratch folder under which the place is made; memory, if it fits
 */
export async function drill(
  { backup: file, shares, say, root }: Omit<RestoreOptions, 'home'>,
  scratch: string,
  installation: Installation,
): Promise<DrillReport> {
  const began = Date.now();
  const home = mkdtempSync(join(scratch, 'ekms-drill-'));
  try {
    const backup = await openBackupFile(file, root);
    await backup.close();
    const { label, module, profile } = backup.head.token;
    if (profile !== 'softhsm')
      throw new Fault(
        'conflict',
        'drill-needs-softhsm',
        `the token's profile is ${profile}: drill on a second token of that kind, by "ekms restore" into a home of its own`,
      );
    writeFileSync(join(home, 'ekms.yaml'), JSON.stringify({ token: { label, module } }), { mode: 0o600 }); // JSON is YAML
    const report = await restore({ home, backup: file, shares, say, nothingLost: true, ...(root ? { root } : {}) }, installation);
    const house = await openHouse(loadConfiguration(home), installation);
    try {
      const problems = (await examine(house, { data: true }))
        .filter(({ verdict }) => verdict === 'bad')
        .map(({ check, words }) => `${check}: ${words}`);
      const seconds = (from: number, to: number) => Math.round((to - from) / 100) / 10;
      return {
        ...{ ...report, problems },
        recoveryPoint: seconds(Date.parse(report.created), began),
        recoveryTime: seconds(began, Date.now()),
      };
    } finally {
      await house.close();
    }
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
