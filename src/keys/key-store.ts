import { base64url, fromBase64, type Reader, sha256, type Unit } from '../foundation/index.js';
import type { HeldMode, KeyRecord, KeyState, Sealed } from '../tokens/index.js';

/** A key as stored: its sealed record and the blob that the record's digests name. */
export interface StoredKey {
  sealed: Sealed<KeyRecord>;
  wrapped: Buffer;
  publicKey: Buffer;
}

interface KeyRow {
  id: string;
  version: number;
  employee: string;
  suite: 'rsa';
  bits: number;
  state: KeyState;
  mode: HeldMode;
  kek: string;
  public_key_digest: Buffer;
  public_key: Buffer;
  wrapped: Buffer;
  mac: Buffer;
  origin: 'imported' | null;
  shared: number | null;
}

/** The digest of the wrapped key is computed from the blob, never stored beside it: a row whose blob was swapped no longer has the MAC that fits. */
function stored(row: KeyRow): StoredKey {
  const { id, version, employee, suite, bits, state, mode, kek, mac, origin, shared } = row;
  const record: KeyRecord = {
    type: 'key',
    id,
    version,
    employee,
    suite,
    bits,
    state,
    mode,
    kek,
    publicKey: base64url(row.public_key_digest),
    wrapped: base64url(sha256(row.wrapped)),
    ...(origin === null ? {} : { origin }),
    ...(shared === null ? {} : { shared: true }),
  };
  return { sealed: { record, mac }, wrapped: row.wrapped, publicKey: row.public_key };
}

export class KeyStore {
  async find(reader: Reader, id: string): Promise<StoredKey | undefined> {
    const row = await reader.one<KeyRow>('SELECT * FROM keys WHERE id = ?', [id]);
    return row && stored(row);
  }

  /** Every key, in pages by id, for checks and rotation. */
  async page(reader: Reader, after: string, size: number): Promise<StoredKey[]> {
    const rows = await reader.all<KeyRow>('SELECT * FROM keys WHERE id > ? ORDER BY id LIMIT ?', [after, size]);
    return rows.map(stored);
  }

  /** The same of keys that are wrapped under another KEK than this. */
  async underOther(reader: Reader, kek: string, after: string, size: number): Promise<StoredKey[]> {
    const rows = await reader.all<KeyRow>('SELECT * FROM keys WHERE id > ? AND kek <> ? ORDER BY id LIMIT ?', [after, kek, size]);
    return rows.map(stored);
  }

  /** The same of keys that are not destroyed. @param employees only theirs */
  async undestroyed(reader: Reader, after: string, size: number, employees?: readonly string[]): Promise<StoredKey[]> {
    const whose = employees ? ` AND employee IN (${employees.map(() => '?').join(', ')})` : '';
    const rows = await reader.all<KeyRow>(`SELECT * FROM keys WHERE id > ? AND state <> 'destroyed'${whose} ORDER BY id LIMIT ?`, [
      after,
      ...(employees ?? []),
      size,
    ]);
    return rows.map(stored);
  }

  async insert(unit: Unit, { sealed: { record, mac }, wrapped, publicKey }: StoredKey, created: number): Promise<void> {
    await unit.run(
      'INSERT INTO keys (id, version, employee, suite, bits, state, mode, kek, public_key_digest, public_key, wrapped, mac, created, origin, shared) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      [
        record.id,
        record.version,
        record.employee,
        record.suite,
        record.bits,
        record.state,
        record.mode,
        record.kek,
        fromBase64(record.publicKey, 'base64url') ?? null,
        publicKey,
        wrapped,
        mac,
        created,
        record.origin ?? null,
        record.shared ? 1 : null,
      ],
    );
  }

  /** Writes whatever version over the one that is there: for a restore, and for a key that is wrapped anew. */
  async overwrite(unit: Unit, { sealed: { record, mac }, wrapped }: StoredKey): Promise<void> {
    await unit.run('UPDATE keys SET version = ?, state = ?, mode = ?, kek = ?, wrapped = ?, mac = ? WHERE id = ?', [
      record.version,
      record.state,
      record.mode,
      record.kek,
      wrapped,
      mac,
      record.id,
    ]);
  }

  /** Writes a key that was wrapped anew over the very version that it was made of; false when that changed meanwhile. */
  async renew(unit: Unit, before: KeyRecord, { sealed: { record, mac }, wrapped }: StoredKey): Promise<boolean> {
    const changed = await unit.run('UPDATE keys SET kek = ?, wrapped = ?, mac = ? WHERE id = ? AND version = ? AND kek = ?', [
      record.kek,
      wrapped,
      mac,
      record.id,
      before.version,
      before.kek,
    ]);
    return changed === 1;
  }

  /**
   * Writes the next version over the very one that it was made of, and of a destroyed key nothing to open; false when that changed meanwhile. Wrapped anew a key keeps
   * its version, and the seal of the next one is over the blob: so the KEK must be the same too.
   */
  async replace(unit: Unit, { record, mac }: Sealed<KeyRecord>): Promise<boolean> {
    const changed = await unit.run('UPDATE keys SET version = ?, state = ?, mode = ?, mac = ? WHERE id = ? AND version = ? AND kek = ?', [
      ...[record.version, record.state, record.mode, mac],
      ...[record.id, record.version - 1, record.kek],
    ]);
    if (changed === 0) return false;
    if (record.state === 'destroyed') await unit.run('UPDATE keys SET wrapped = ? WHERE id = ?', [Buffer.alloc(0), record.id]);
    return true;
  }
}
