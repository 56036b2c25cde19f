import { certificateTimes, insertCertificate } from '../certificates/index.js';
import { type AuditActor, type AuditLog, sha256, type Unit } from '../foundation/index.js';
import { KeyStore, requireLivingKek, type StoredKey } from '../keys/index.js';

/** Stores a key that came from outside, its certificates and the entry about it, in one unit. @param reason where it is brought back, not taken in */
export async function storeTakenKey(
  unit: Unit,
  audit: AuditLog,
  { key, certificates, now, by, reason }: { key: StoredKey; certificates: readonly Buffer[]; now: Date; by: AuditActor; reason?: 'escrow' },
): Promise<void> {
  const { record } = key.sealed;
  if (reason !== 'escrow') await requireLivingKek(unit, record.kek);
  await new KeyStore().insert(unit, key, now.getTime());
  for (const der of certificates)
    await insertCertificate(unit, {
      // Serials are unique within one issuer only, and these are of many.
      serial: `imported-${sha256(der).toString('hex').slice(0, 32)}-${record.id}`,
      authority: 'people',
      profile: 'imported',
      der,
      ...certificateTimes(der),
      key: record.id,
      employee: record.employee,
    });
  await audit.append(unit, {
    ...{ action: 'key.import', outcome: 'done', actor: by, employee: record.employee, key: record.id, subject: record.id },
    ...(reason ? { reason } : {}),
    facts: { publicKey: record.publicKey, bits: record.bits, mode: record.mode, certificates: certificates.length },
  });
}
