import { children, numberOf, readWhole, TAG } from '../../../src/codec/asn1/index.js';
import { Fault } from '../../../src/foundation/index.js';
import { type Certificate, EXTENSION } from './certificate.js';
import { assertNamesPermitted } from './name-constraints.js';

export interface PathAsk {
  leaf: Certificate;
  /** Authorities that may lie between; others in the list are passed over. */
  among: readonly Certificate[];
  root: Certificate;
  /** Extended key usage that the leaf must name; authorities that name any must name it too. */
  usage?: string;
  /** Certificate policy that the leaf must carry. */
  policy?: string;
  /** Left out, periods of validity are not looked at. */
  at: Date | undefined;
}

const ANY_USAGE = '2.5.29.37.0';
const KNOWN = new Set<string>(Object.values(EXTENSION));
/** RFC 5280 §4.2.1.3: bit 5. */
const KEY_CERT_SIGN = 0x04;
const LONGEST = 5;

const untrusted = (why: string) => new Fault('forbidden', 'chain-untrusted', `the certificate does not end in the pinned root: ${why}`);

/**
 * The path from `leaf` to `root` (RFC 5280 §6.1): signatures, names, times, basic and name constraints, key usage, and nothing critical that is not
 * understood. An extended key usage on an authority limits what is below it, as every client has it. Throws `chain-untrusted`.
 */
export function chainToRoot(ask: PathAsk): Certificate[] {
  const path = findPath(ask);
  path.forEach((certificate, below) => {
    const name = certificate.x509.subject.replaceAll('\n', ', ') || 'a certificate';
    if (ask.at && (ask.at < certificate.notBefore || ask.at > certificate.notAfter))
      throw untrusted(`${name} is valid from ${certificate.notBefore.toISOString()} to ${certificate.notAfter.toISOString()}`);
    for (const [type, extension] of certificate.extensions)
      if (extension.critical && !KNOWN.has(type)) throw untrusted(`${name} has the critical extension ${type}`);
    if (below > 0) assertAuthority(certificate, path.slice(1, below).filter((between) => !isSelfIssued(between)).length, name);
    const usages = certificate.usages;
    if (ask.usage && (below === 0 || usages) && !usages?.includes(ask.usage) && !(below > 0 && usages?.includes(ANY_USAGE)))
      throw untrusted(`${name} is not meant for usage ${ask.usage}`);
    const constraints = certificate.extensions.get(EXTENSION.nameConstraints);
    if (constraints)
      for (const subject of path.slice(0, below).filter((it, index) => index === 0 || !isSelfIssued(it)))
        assertNamesPermitted(constraints.value, subject, untrusted);
  });
  if (ask.policy && !ask.leaf.policies.includes(ask.policy)) throw untrusted(`the leaf lacks the certificate policy ${ask.policy}`);
  return path;
}

function findPath(ask: PathAsk): Certificate[] {
  const path: Certificate[] = [ask.leaf];
  for (let last = ask.leaf; !last.der.equals(ask.root.der); ) {
    const issuer = [ask.root, ...ask.among].find(
      (candidate) => candidate.subject.equals(last.issuer) && !path.includes(candidate) && last.x509.verify(candidate.publicKey),
    );
    if (!issuer || path.length > LONGEST)
      throw untrusted(`no authority in between is known for "${last.x509.issuer.replaceAll('\n', ', ')}"`);
    path.push(issuer);
    last = issuer;
  }
  return path;
}

/** @param between how many authorities of other names stand below this one (RFC 5280 §4.2.1.9) */
function assertAuthority(certificate: Certificate, between: number, name: string): void {
  const basic = certificate.extensions.get(EXTENSION.basicConstraints);
  const fields = basic && children(readWhole(basic.value));
  if (fields?.[0]?.tag !== 0x01 || fields[0].content[0] !== 0xff) throw untrusted(`${name} is no certificate authority`);
  if (fields[1] && numberOf(fields[1]) < between) throw untrusted(`${name} may not have authorities below it`);
  const usage = certificate.extensions.get(EXTENSION.keyUsage);
  if (usage) {
    const bits = readWhole(usage.value);
    if (bits.tag !== TAG.bitString || ((bits.content[1] ?? 0) & KEY_CERT_SIGN) === 0) throw untrusted(`${name} may not sign certificates`);
  }
}

/** An authority that certifies its own next key: neither counted nor constrained as one more (RFC 5280 §4.2.1.9, §4.2.1.10). */
const isSelfIssued = (certificate: Certificate): boolean => certificate.subject.equals(certificate.issuer);

/** Whether the certificate is self-issued and signed by its own key: what a pinned root must be. */
export function isSelfSigned(certificate: Certificate): boolean {
  return isSelfIssued(certificate) && certificate.x509.verify(certificate.publicKey);
}
