import { X509Certificate } from 'node:crypto';
import {
  CertificatePolicyExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  X509Certificate as Reader,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509';
import { Fault, sameBytes } from '../../foundation/index.js';
import { type DeviceBinding, parseDeviceBinding } from './device-binding.js';
import { POLICY } from './oids.js';

export interface TrustedDevice extends DeviceBinding {
  notBefore: Date;
  notAfter: Date;
}

const POLICY_BYTES = Buffer.from(new CertificatePolicyExtension([POLICY.device]).rawData);
const untrusted = (why: string) => new Fault('forbidden', 'device-untrusted', `this is no device certificate of this appliance: ${why}`);

/**
 * Accepts a device certificate only by signature of the device CA, and its exact profile: clientAuth alone, the device policy alone, no CA.
 * Time is the caller's to check, so that the result can be kept. Throws `device-untrusted`.
 */
export function readDeviceCertificate(der: Uint8Array, deviceAuthority: Uint8Array): TrustedDevice {
  let leaf: X509Certificate;
  let reader: Reader;
  const authority = new X509Certificate(deviceAuthority);
  try {
    leaf = new X509Certificate(der);
    reader = new Reader(der);
  } catch {
    throw untrusted('not a certificate');
  }
  if (!sameBytes(leaf.raw, der)) throw untrusted('trailing bytes');
  if (leaf.ca || !leaf.checkIssued(authority) || !leaf.verify(authority.publicKey)) throw untrusted('not signed by the device CA');
  const usages = reader.getExtension(ExtendedKeyUsageExtension)?.usages;
  if (usages?.length !== 1 || usages[0] !== ExtendedKeyUsage.clientAuth) throw untrusted('not for client authentication');
  const policy = reader.getExtension(CertificatePolicyExtension);
  if (!policy || !sameBytes(Buffer.from(policy.rawData), POLICY_BYTES)) throw untrusted('another policy');
  const names = reader.getExtension(SubjectAlternativeNameExtension)?.names.items ?? [];
  if (names.length !== 1 || names[0]?.type !== 'url') throw untrusted('no device binding');
  return { ...parseDeviceBinding(names[0].value), notBefore: reader.notBefore, notAfter: reader.notAfter };
}
