import { X509Certificate } from 'node:crypto';
import { Fault, sameBytes } from '../../foundation/index.js';
import { type DeviceBinding, parseDeviceBinding } from './device-binding.js';
import { CertificatePolicyExtension } from './library.js';
import { POLICY, USAGE } from './oids.js';

export interface TrustedDevice extends DeviceBinding {
  /** DER of the device CA that signed it. */
  authority: Uint8Array;
  notBefore: Date;
  notAfter: Date;
}

/** The whole extension, encoded. Its octets cannot stand elsewhere in a certificate of the device CA: every name there is text of ours. */
const POLICY_BYTES = Buffer.from(new CertificatePolicyExtension([POLICY.device]).rawData);
const untrusted = (why: string) => new Fault('forbidden', 'device-untrusted', `this is no device certificate of this appliance: ${why}`);

/**
 * Accepts a device certificate only by signature of one of the device CAs that are trusted, and its exact profile: clientAuth alone, the device policy alone, no CA.
 * Read by OpenSSL, for each new connection and each device new to the token process pays for it. Time is the caller's to check, so that the
 * result can be kept. Throws `device-untrusted`.
 */
export function readDeviceCertificate(der: Uint8Array, deviceAuthorities: readonly Uint8Array[]): TrustedDevice {
  const leaf = parse(der);
  if (!sameBytes(leaf.raw, der)) throw untrusted('trailing bytes');
  const authority = leaf.ca ? undefined : deviceAuthorities.find((each) => isSignedBy(leaf, each));
  if (!authority) throw untrusted('not signed by the device CA');
  // Node calls the extended key usages so.
  if (leaf.keyUsage?.length !== 1 || leaf.keyUsage[0] !== USAGE.clientAuth) throw untrusted('not for client authentication');
  if (!leaf.raw.includes(POLICY_BYTES)) throw untrusted('another policy');
  const [, uri] = /^URI:(ekms:device:[A-Za-z0-9:_-]+)$/.exec(leaf.subjectAltName ?? '') ?? [];
  if (!uri) throw untrusted('no device binding');
  return { ...parseDeviceBinding(uri), authority, notBefore: leaf.validFromDate, notAfter: leaf.validToDate };
}

function isSignedBy(leaf: X509Certificate, der: Uint8Array): boolean {
  const authority = new X509Certificate(der);
  return leaf.checkIssued(authority) && leaf.verify(authority.publicKey);
}

function parse(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch {
    throw untrusted('not a certificate');
  }
}
