import { randomBytes } from 'node:crypto';
import type { AuthorityCertificates } from '../authorities.js';
import type { MadeCustody } from '../pkcs11/ceremony.js';
import type { CustodyPackage } from './package.js';
import { type CustodyPlan, recipientOf, sealShare } from './seal-share.js';
import { combineShares, formatShare, parseShare, shareDigest, splitKey } from './shares.js';

export interface HandedOut {
  package: CustodyPackage;
  /** One for each custodian, to be written where they can take it. */
  files: { file: string; content: Buffer }[];
  /** The ceremony key as the first M shares give it back, by the way that a restore goes. */
  recombined: Buffer;
}

/** Splits the ceremony key and seals each share to its custodian. */
export async function handOut(of: {
  plan: CustodyPlan;
  made: MadeCustody;
  recipient: string;
  certificates: AuthorityCertificates;
  now: Date;
  /** Where the plan names none. */
  recovery?: CustodyPackage['recovery'];
}): Promise<HandedOut> {
  const { plan, made, recipient, certificates, now } = of;
  const ceremony = randomBytes(16);
  const recovery = plan.recovery
    ? {
        quorum: plan.recovery.quorum,
        agents: plan.recovery.agents.map(({ name, publicKey }) => ({ name, publicKey: Buffer.from(publicKey, 'base64') })),
      }
    : of.recovery;
  const { shares, entries, files } = await sealedShares(plan, made.ceremonyKey, ceremony);
  return {
    package: {
      type: 'ekms-custody',
      v: 1,
      ceremony,
      created: now.toISOString(),
      threshold: plan.threshold,
      shares: entries,
      custodyKey: made.custodyKey,
      backup: { recipient, envelope: made.identity },
      keys: made.keys,
      ...(recovery ? { recovery } : {}),
      certificates,
    },
    files,
    recombined: await combineShares(
      shares.slice(-plan.threshold).map((share) => parseShare(formatShare(share))),
      ceremony,
      plan.threshold,
      entries.map(({ digest }) => digest),
    ),
  };
}

/** @returns also the package's entries for these shares */
async function sealedShares({ threshold, custodians }: CustodyPlan, key: Buffer, ceremony: Buffer) {
  const shares = await splitKey(key, { ceremony, threshold, total: custodians.length });
  const files = [];
  const entries = [];
  for (const [index, custodian] of custodians.entries()) {
    const share = shares[index];
    if (!share) throw new Error('there is a share for each custodian');
    entries.push({ name: custodian.name, recipient: recipientOf(custodian), digest: shareDigest(share) });
    files.push(await sealShare(share, custodian));
  }
  return { shares, entries, files };
}
