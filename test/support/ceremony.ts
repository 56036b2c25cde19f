import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Appliance, type ApplianceOptions } from './appliance.js';

/** An appliance made by a ceremony with three printed shares, two of which are needed. */
export class CustodyAppliance extends Appliance {
  static async hold(options: ApplianceOptions = {}): Promise<CustodyAppliance> {
    const appliance: CustodyAppliance = await CustodyAppliance.prepare(options);
    const who = ['Ada', 'Ben', 'Cleo'].map((name) => `${name}=paper`);
    const { status, stderr } = await appliance.ekms(
      'ceremony',
      '--custodian',
      ...who,
      '--threshold',
      '2',
      '--shares',
      appliance.beside('shares'),
      '--present',
      'Zoe',
    );
    if (status !== 0) throw new Error(`ekms ceremony: ${stderr}`);
    await appliance.serve();
    return appliance;
  }

  /** Files of the shares, in order. */
  get shares(): string[] {
    const folder = this.beside('shares');
    return readdirSync(folder)
      .filter((name) => name.startsWith('share-'))
      .sort()
      .map((name) => join(folder, name));
  }

  shareLines(): string[] {
    return this.shares.map((path) => /EKMS-SHARE-1:\S+/.exec(readFileSync(path, 'utf8'))?.[0] ?? '');
  }
}
