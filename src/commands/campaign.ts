import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Fault } from '../foundation/index.js';
import type { Installation } from '../house.js';

/** Long runs of tests with chosen faults or inputs, each from one seed. What they break is made by them, never an appliance in use. */
export const CAMPAIGNS = {
  crash: {
    script: 'test/faults/crash-campaign.mjs',
    words: 'kills the appliance at a named step under load, starts it again and looks for what was lost',
  },
  custody: {
    script: 'test/faults/custody-campaign.mjs',
    words:
      'kills an appliance with custodians between two steps of birth, backup, rotation, import, ceremony, new keys, a move to another token or restore and looks for what was lost',
  },
  'custody-guards': {
    script: 'test/faults/custody-guards-campaign.mjs',
    words: 'takes guards of reissue and token migration away, one at a time (there are 10), and looks whether what each is for comes about',
  },
  rotation: {
    script: 'test/custody/rotation-campaign.mjs',
    words:
      'wraps so many keys under a new key-encryption key while devices fetch theirs, killed five times in it, and opens every key afterwards',
  },
  restore: {
    script: 'test/faults/restore-campaign.mjs',
    words: 'burns the home of an appliance with custodians and restores it, with the shares, backups and heads that must be refused',
  },
  'pkcs12-samples': {
    script: 'test/custody/pkcs12-campaign.mjs',
    words: 'imports the PKCS#12 files that a Debian package brings (fetched once) and tells what became of each',
  },
  import: {
    script: 'test/custody/import-campaign.mjs',
    words:
      'imports a folder of so many PKCS#12 files while the command, the token process and the appliance are killed in turn, looks for what was lost or doubled, and says rate and memory',
  },
  'staff-timing': {
    script: 'test/staff/timing-campaign.mjs',
    words: 'measures whether sign-in tells by time or words who is there',
  },
  'pdf-fuzz': {
    script: 'test/codec/pdf/pdf-fuzz.mjs',
    words: 'bends documents, encrypts or decrypts them, and looks for what is neither refused by name nor rewritten',
  },
  'pdf-corpus': {
    script: 'test/interop/pdf-corpus-campaign.mjs',
    words: 'encrypts and decrypts the documents that packages bring, and lets PDFBox and qpdf judge (fetches two Debian packages once)',
  },
  tamper: {
    script: 'test/audit/tamper-campaign.mjs',
    words: 'tampers with logs in twelve ways and looks whether the offline verifier finds and places each, and is silent on clean logs',
  },
  'log-kills': {
    script: 'test/audit/kill-campaign.mjs',
    words: 'kills the writer of the log under 64 writers and looks whether the log, its acts and its heads hold',
  },
  existence: {
    script: 'test/access/existence-campaign.mjs',
    words: 'asks for people that an appliance knows and for people that it does not, and compares bytes and times',
  },
} as const;
export type CampaignName = keyof typeof CAMPAIGNS;
export interface CampaignSize {
  seed: number;
  count: number;
  kills?: number;
}

/** Throws `campaign-failed` when it found something, `campaign-not-here` outside of a checkout, where the tests are not. */
export async function runCampaign(name: CampaignName, { seed, count, kills }: CampaignSize, { root }: Installation): Promise<void> {
  const script = join(root, CAMPAIGNS[name].script);
  if (!existsSync(script))
    throw new Fault('misconfigured', 'campaign-not-here', 'campaigns are parts of the tests and run from a checkout of the project');
  const child = spawn(
    process.execPath,
    [script, '--seed', String(seed), '--count', String(count), ...(kills === undefined ? [] : ['--kills', String(kills)])],
    { stdio: 'inherit', cwd: root },
  );
  const status = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  if (status !== 0)
    throw new Fault(
      'conflict',
      'campaign-failed',
      `the campaign "${name}" found something, or broke off (status ${status}); the seed repeats it`,
    );
}
