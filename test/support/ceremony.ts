import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Appliance, type ApplianceOptions } from './appliance.js';

/** An appliance made by a ceremony with three printed shares, two of which are needed. */
export class CustodyAppliance extends Appliance {
  /** Further words of `ekms ceremony`. */
  ceremonyOptions: string[] = [];

  /** @param before what is to be done in the home before the ceremony */
  static async hold(
    options: ApplianceOptions = {},
    before: (home: CustodyAppliance) => Promise<void> = async () => {},
  ): Promise<CustodyAppliance> {
    const appliance: CustodyAppliance = await CustodyAppliance.prepare(options);
    await before(appliance);
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
      ...appliance.ceremonyOptions,
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

/** Every private key of a device's person, as openssl reads it out of what the client exports; sorted. */
export async function exportedKeys(ekms: CustodyAppliance, device: string): Promise<string[]> {
  const keys = [];
  writeFileSync(ekms.beside('pass'), 'a pass phrase\n');
  for (const { id } of await ekms.listKeys(device)) {
    rmSync(ekms.beside('out.p12'), { force: true });
    const how = ['--p12', ekms.beside('out.p12'), '--p12-passphrase-file', ekms.beside('pass')];
    const { status, stderr } = await ekms.mesign(device, 'export', '--key', id, ...how);
    if (status !== 0) throw new Error(stderr);
    const words = ['pkcs12', '-in', ekms.beside('out.p12'), '-nodes', '-nocerts', '-passin', `file:${ekms.beside('pass')}`];
    keys.push(
      execFileSync('openssl', words, { stdio: ['ignore', 'pipe', 'ignore'] })
        .toString()
        .replace(/^[\s\S]*?(?=-----BEGIN)/, ''),
    );
  }
  return keys.sort();
}
