import type { CertificateDirectory } from '../certificates/index.js';
import { keyTransportRecipient } from '../codec/cms/index.js';
import { type Permission, permissionBits, type Readers } from '../codec/pdf/index.js';
import { Fault, parseAddress } from '../foundation/index.js';

/** How an address stands: `valid` has a certificate that mail and documents are encrypted to; of several the newest is taken. */
export interface Standing {
  address: string;
  state: 'valid' | 'expired' | 'revoked' | 'none';
  /** How many valid ones there are. */
  certificates: number;
  /** DER, newest first. */
  found: Buffer[];
}

export type Allowed = 'owner' | readonly Permission[];

/** Who is to open a document, and what they may do. */
export interface Asked {
  address: string;
  allowed: Allowed;
}

/** More than anyone names by hand; groups come to this. */
export const MOST_RECIPIENTS = 200;

/** Throws `recipients-too-many`. */
export function requireFew({ length }: readonly unknown[]): void {
  if (length > MOST_RECIPIENTS)
    throw new Fault('too-large', 'recipients-too-many', `a document goes to at most ${MOST_RECIPIENTS} people at once`);
}

export async function standingOf(directory: CertificateDirectory, text: string): Promise<Standing> {
  const address = parseAddress(text).key;
  const { valid, ended } = await directory.standing(address);
  const state = valid.length > 0 ? 'valid' : (ended ?? 'none');
  return { address, state, certificates: valid.length, found: valid };
}

const WHY = {
  expired: 'the certificate has expired',
  revoked: 'the certificate was revoked',
  none: 'has no encrypting certificate',
} as const;

/** Everybody asked for, or nobody: throws `recipients-unresolved`, which says of each what is wrong. */
export async function resolved(
  directory: CertificateDirectory,
  asked: readonly Asked[],
): Promise<{ certificate: Buffer; allowed: Allowed }[]> {
  requireFew(asked);
  const standings = await Promise.all(asked.map(async (one) => ({ ...one, ...(await standingOf(directory, one.address)) })));
  const unresolved = standings.flatMap(({ address, state }) => (state === 'valid' ? [] : [`${address}: ${WHY[state]}`]));
  if (unresolved.length > 0)
    throw new Fault('conflict', 'recipients-unresolved', `not encrypted to anybody, since not to all: ${unresolved.join('; ')}`);
  return standings.flatMap(({ found, allowed }) => found.slice(0, 1).map((certificate) => ({ certificate, allowed })));
}

/** A certificate from elsewhere, DER or PEM. Throws `certificate-unfit`. */
export function foreignCertificate(bytes: Buffer, now: Date): Buffer {
  const { certificate, notBefore, notAfter } = keyTransportRecipient(bytes);
  if (now < notBefore || now > notAfter)
    throw new Fault(
      'malformed',
      'certificate-unfit',
      `the certificate is valid from ${notBefore.toISOString()} to ${notAfter.toISOString()}`,
    );
  return certificate;
}

/**
 * One group for each set of permissions; whoever stands in two has what comes first. The sender, who is the first of `people`, stands in each, and can so
 * read later what each reader was allowed.
 */
export function groupsOf(people: readonly { certificate: Buffer; allowed: Allowed }[]): Readers[] {
  const groups = new Map<number, Buffer[]>();
  const seen = new Set<string>();
  for (const { certificate, allowed } of people) {
    const name = certificate.toString('latin1');
    if (seen.has(name)) continue;
    seen.add(name);
    const bits = permissionBits(allowed);
    const [sender] = people;
    groups.set(bits, [...(groups.get(bits) ?? (seen.size > 1 && sender ? [sender.certificate] : [])), certificate]);
  }
  return [...groups].map(([permissions, certificates]) => ({ permissions, certificates }));
}
