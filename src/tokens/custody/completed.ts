import { Fault } from '../../foundation/index.js';
import { SUCCEEDING_AUTHORITIES, type SucceedingAuthority } from '../token.js';
import type { CustodyEntry, CustodyPackage } from './package.js';

/** A generation of an authority after the first, as the custodians hold it. */
export interface HeldGeneration {
  name: SucceedingAuthority;
  n: number;
  /** DER. */
  certificate: Buffer;
}

/** Those whose key and certificate this package holds: they serve, or were about to. Of one name the oldest first. */
export const heldGenerations = ({ keys }: Pick<CustodyPackage, 'keys'>): HeldGeneration[] =>
  keys.flatMap((entry) => generationOf(entry) ?? []).sort((a, b) => a.n - b.n);

function generationOf({ label, certificate }: CustodyEntry): HeldGeneration | undefined {
  const [, said, n] = /^ekms\/sign\/([a-z]+)\/([1-9]\d{0,5})$/.exec(label) ?? [];
  const name = SUCCEEDING_AUTHORITIES.find((each) => each === said);
  return name && certificate ? { name, n: Number(n), certificate } : undefined;
}

const copyOf = ({ envelope: { key, content } }: CustodyEntry): string =>
  [key, content].map((part) => part?.toString('base64url') ?? '').join('.');

/**
 * Labels under which a later package of the same custodians holds another key than this one. A copy is made once, with its key: of one ceremony other bytes are another
 * key, which two lives of one appliance gave the same name. An authority without a certificate never served, and its copy may be made anew.
 */
export function contradicted(known: Pick<CustodyPackage, 'keys'>, later: Pick<CustodyPackage, 'keys'>): string[] {
  const counts = (entry: CustodyEntry) => entry.kind === 'kek' || generationOf(entry) !== undefined;
  const own = new Map(known.keys.filter(counts).map((entry) => [entry.label, copyOf(entry)]));
  return later.keys.filter((entry) => counts(entry) && (own.get(entry.label) ?? copyOf(entry)) !== copyOf(entry)).map(({ label }) => label);
}

/**
 * A package with what a later one of the same custodians knows more: key-encryption keys, and generations of authorities after the newest that it knows itself. Nothing is taken out of it: what
 * the journal and the rows beside it name stays. The very same object where the other knows nothing more. Throws `custody-package-other`: under a name that
 * both know the other has another key, and to take either would lose what is under the other.
 */
export function completed(known: CustodyPackage, later: Pick<CustodyPackage, 'keys'>): CustodyPackage {
  const [other] = contradicted(known, later);
  if (other !== undefined)
    throw new Fault(
      'conflict',
      'custody-package-other',
      `the custodians’ package at the second place has another key under the name ${other}: a token that was put back has made it. Take a backup of the same life as that package; or restore without --escrow, and what came after this backup is lost`,
    );
  const labels = new Set(known.keys.map(({ label }) => label));
  const newest = new Map(heldGenerations(known).map(({ name, n }) => [name, n]));
  const more = later.keys.filter((entry) => {
    if (entry.kind === 'kek') return !labels.has(entry.label);
    const generation = generationOf(entry);
    return generation !== undefined && generation.n > (newest.get(generation.name) ?? 1);
  });
  if (more.length === 0) return known;
  const replaced = new Set(more.map(({ label }) => label));
  return { ...known, keys: [...known.keys.filter(({ label }) => !replaced.has(label)), ...more] };
}
