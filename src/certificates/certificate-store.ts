import type { Reader, Unit } from '../foundation/index.js';
import { type AuthorityName, authorityId, generationOf } from '../tokens/index.js';

export interface StoredCertificate {
  serial: string;
  /** Which of its generations signed it is seen by the certificate. */
  authority: AuthorityName;
  /** `imported`: of a key that came from outside, by whatever authority made it; kept so that mail which names it finds its key. */
  profile: 'person' | 'device' | 'tls-server' | 'mail-signing' | 'imported' | 'authority';
  /** DER; empty for a serial that was signed but whose owner never got it. */
  der: Buffer;
  notBefore: number;
  notAfter: number;
  key?: string;
  device?: string;
  employee?: string;
  address?: string;
}

/** RFC 5280 §5.3.1 */
export const REASON = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  privilegeWithdrawn: 9,
} as const;
export type RevocationReason = keyof typeof REASON;

export async function insertCertificate(unit: Unit, certificate: StoredCertificate): Promise<void> {
  const { serial, authority, profile, der, notBefore, notAfter, key = null, device = null, employee = null, address = null } = certificate;
  const signed = profile === 'imported' || der.length === 0 ? authority : authorityId({ name: authority, n: generationOf(der) });
  await unit.run(
    'INSERT INTO certificates (serial, authority, profile, subject_key, device, employee, address, der, not_before, not_after) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
    [serial, signed, profile, key, device, employee, address, der, notBefore, notAfter],
  );
}

/** False when it is unknown or was revoked before. */
export async function markRevoked(unit: Unit, serial: string, reason: RevocationReason, at: number): Promise<boolean> {
  return (
    (await unit.run('UPDATE certificates SET revoked_at = ?, reason = ? WHERE serial = ? AND revoked_at IS NULL', [
      at,
      REASON[reason],
      serial,
    ])) === 1
  );
}

/** Valid encrypting certificates of an address, newest first. */
export async function validCertificatesOf(reader: Reader, address: string, now: number): Promise<Buffer[]> {
  const rows = await reader.all<{ der: Buffer }>(
    // The address's owner of now, with a key that mail may be encrypted to.
    `SELECT der FROM certificates WHERE address = ? AND profile = 'person' AND revoked_at IS NULL AND not_before <= ? AND not_after > ?
     AND employee = (SELECT employee FROM bindings WHERE address = ? AND to_time IS NULL)
     AND EXISTS (SELECT 1 FROM keys WHERE keys.id = certificates.subject_key AND keys.state = 'active') ORDER BY not_before DESC, serial`,
    [address, now, now, address],
  );
  return rows.map((row) => row.der);
}

export async function validCertificatesOfEmployee(reader: Reader, employee: string, now: number): Promise<Buffer[]> {
  const rows = await reader.all<{ der: Buffer }>(
    `SELECT der FROM certificates WHERE employee = ? AND profile = 'person' AND revoked_at IS NULL AND not_before <= ? AND not_after > ?
     AND EXISTS (SELECT 1 FROM keys WHERE keys.id = certificates.subject_key AND keys.state = 'active') ORDER BY not_before DESC, serial`,
    [employee, now, now],
  );
  return rows.map((row) => row.der);
}

/** Of all keys of an employee, former ones and those from outside too. */
export async function everyCertificateOfEmployee(reader: Reader, employee: string): Promise<Buffer[]> {
  const rows = await reader.all<{ der: Buffer }>(
    'SELECT der FROM certificates WHERE employee = ? AND subject_key IS NOT NULL ORDER BY not_before DESC, serial',
    [employee],
  );
  return rows.map((row) => row.der);
}

/** What became of the newest certificate that an address has had; undefined if there was none. */
export async function endedCertificateOf(reader: Reader, address: string, now: number): Promise<'expired' | 'revoked' | undefined> {
  const [newest] = await reader.all<{ isRevoked: number; notAfter: number }>(
    `SELECT CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END AS "isRevoked", not_after AS "notAfter" FROM certificates
     WHERE address = ? AND profile = 'person' ORDER BY not_before DESC, serial LIMIT 1`,
    [address],
  );
  if (!newest) return undefined;
  return Number(newest.notAfter) <= now ? 'expired' : Number(newest.isRevoked) === 1 ? 'revoked' : undefined;
}
