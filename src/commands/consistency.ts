import { X509Certificate } from 'node:crypto';
import { type BindingRow, sealedBinding } from '../access/index.js';
import { base64url, isFault, type SqlValue, type Storage, sameBytes, sha256 } from '../foundation/index.js';
import { KeyStore } from '../keys/index.js';
import type { BindingRecord, KeyRecord, Sealed, Token } from '../tokens/index.js';
import { checkBirths } from './births.js';
import { type Finding, Findings } from './finding.js';

/** Rows read at a time: a page fits in a few megabytes, and nobody else waits long for the reading connection. */
const PAGE = 500;
/** Seals that the token checks at a time; few, so that retrievals go on beside it. */
const SEALS = 4;

/**
 * The invariants that no crash may break: nothing lost, duplicated or without an owner, in the tables, between them, and between them and
 * the log. Reads in pages while the appliance goes on working; each statement sees one moment, so what changes meanwhile is no false alarm.
 */
export async function checkData(storage: Storage, token: Token): Promise<Finding[]> {
  const pool = await checkPool(storage);
  return [
    ...(await checkKeys(storage, token, pool.digests)),
    ...(await checkBindings(storage, token)),
    ...(await checkDevices(storage)),
    ...(await checkCertificates(storage)),
    ...(await checkDeliveries(storage)),
    ...pool.findings,
    ...(await checkBirths(storage)),
  ];
}

/** Every row of a statement that ends in `WHERE <column> > ? ORDER BY <column> LIMIT ?`, page by page. */
async function* pages<R extends { id: string | number }>(storage: Storage, sql: string, from: SqlValue): AsyncGenerator<R[]> {
  for (let after = from; ; ) {
    const rows = await storage.all<R>(sql, [after, PAGE]);
    const last = rows.at(-1);
    if (!last) return;
    yield rows;
    after = last.id;
  }
}

type Owned = Sealed<KeyRecord> | Sealed<BindingRecord>;

/** Whether the token takes these records for its own and for current. Rejects when it does not answer. */
async function checkSeals(token: Token, seals: readonly Owned[], findings: Findings): Promise<void> {
  const waiting = seals.values();
  const work = async () => {
    for (const sealed of waiting)
      try {
        await token.raise(sealed);
      } catch (error) {
        if (!isFault(error) || error.kind === 'unavailable') throw error;
        findings.say('bad', `${sealed.record.type} ${sealed.record.id}: ${error.message} (${error.code})`);
      }
  };
  await Promise.all(Array.from({ length: SEALS }, work));
}

async function checkKeys(storage: Storage, token: Token, pool: ReadonlySet<string>): Promise<Finding[]> {
  const findings = new Findings('keys');
  const store = new KeyStore();
  let count = 0;
  for (let after = ''; ; ) {
    const page = await store.page(storage, after, PAGE);
    const last = page.at(-1);
    if (!last) break;
    after = last.sealed.record.id;
    count += page.length;
    await checkSeals(
      token,
      page.map(({ sealed }) => sealed),
      findings,
    );
    for (const {
      sealed: { record },
      publicKey,
    } of page) {
      if (digestOf(publicKey) !== record.publicKey)
        findings.say('bad', `key ${record.id}: its public key is not the one that its record names`);
      if (pool.has(record.publicKey)) findings.say('bad', `key ${record.id} is still in the pool: it could get a second owner`);
    }
  }
  const sql = `SELECT k.id, k.state, e.id AS "owner",
      (SELECT COUNT(*) FROM certificates c WHERE c.subject_key = k.id AND c.profile = 'person' AND c.employee = k.employee) AS "certificates"
    FROM keys k LEFT JOIN employees e ON e.id = k.employee WHERE k.id > ? ORDER BY k.id LIMIT ?`;
  for await (const rows of pages<{ id: string; state: string; owner: string | null; certificates: number }>(storage, sql, ''))
    for (const { id, state, owner, certificates } of rows) {
      if (!owner) findings.say('bad', `key ${id} has no owner`);
      if (state === 'active' && certificates === 0) findings.say('bad', `key ${id} is active and has no certificate`);
    }
  return findings.end(`${count} keys: each sealed by the token and current, with one owner and, while active, a certificate`);
}

async function checkBindings(storage: Storage, token: Token): Promise<Finding[]> {
  const findings = new Findings('bindings');
  let count = 0;
  for await (const rows of pages<BindingRow>(
    storage,
    'SELECT id, version, employee, address, from_time, to_time, directory, mac FROM bindings WHERE id > ? ORDER BY id LIMIT ?',
    '',
  )) {
    count += rows.length;
    await checkSeals(token, rows.map(sealedBinding), findings);
  }
  const sql =
    'SELECT e.id, (SELECT COUNT(*) FROM bindings b WHERE b.employee = e.id) AS "bindings" FROM employees e WHERE e.id > ? ORDER BY e.id LIMIT ?';
  for await (const rows of pages<{ id: string; bindings: number }>(storage, sql, ''))
    for (const { id, bindings } of rows) if (bindings === 0) findings.say('bad', `employee ${id} never had an address`);
  return findings.end(`${count} address bindings: each sealed by the token and current, no employee without one`);
}

interface DeviceRow {
  id: string;
  state: string;
  owner: string | null;
  certified: string | null;
  revoked_at: number | null;
  keys: number;
  active: number;
  waiting: number;
}

async function checkDevices(storage: Storage): Promise<Finding[]> {
  const findings = new Findings('devices');
  let count = 0;
  const sql = `SELECT d.id, d.state, e.id AS "owner", c.device AS "certified", c.revoked_at,
      (SELECT COUNT(*) FROM keys k WHERE k.employee = d.employee) AS "keys",
      (SELECT COUNT(*) FROM keys k WHERE k.employee = d.employee AND k.state = 'active') AS "active",
      (SELECT COUNT(*) FROM intents i WHERE i.id = 'key:' || d.employee) AS "waiting"
    FROM devices d LEFT JOIN employees e ON e.id = d.employee LEFT JOIN certificates c ON c.serial = d.serial AND c.profile = 'device'
    WHERE d.id > ? ORDER BY d.id LIMIT ?`;
  for await (const rows of pages<DeviceRow>(storage, sql, ''))
    for (const { id, state, owner, certified, revoked_at: revoked, keys, active, waiting } of rows) {
      count += 1;
      if (!owner) findings.say('bad', `device ${id} has no owner`);
      if (certified !== id) findings.say('bad', `the certificate of device ${id} is not there`);
      else if ((revoked === null) !== (state === 'active'))
        findings.say('bad', `device ${id} is ${state}, its certificate is ${revoked === null ? 'not ' : ''}revoked`);
      if (state === 'active' && keys === 0 && waiting === 0)
        findings.say('bad', `device ${id} is active, but its owner has no key and waits for none`);
      else if (state === 'active' && active === 0 && waiting === 0) findings.say('warn', `the owner of device ${id} has former keys only`);
    }
  return findings.end(`${count} devices: each has an owner and its certificate, and each active one a key`);
}

interface CertificateRow {
  id: string;
  profile: string;
  der: Buffer;
  employee: string | null;
  revoked_at: number | null;
  key: string | null;
  key_digest: Buffer | null;
  key_employee: string | null;
  device: string | null;
  device_digest: Buffer | null;
  device_employee: string | null;
}

async function checkCertificates(storage: Storage): Promise<Finding[]> {
  const findings = new Findings('certificates');
  let count = 0;
  const sql = `SELECT c.serial AS "id", c.profile, c.der, c.employee, c.revoked_at, k.id AS "key", k.public_key_digest AS "key_digest", k.employee AS "key_employee",
      d.id AS "device", d.certificate_digest AS "device_digest", d.employee AS "device_employee"
    FROM certificates c LEFT JOIN keys k ON k.id = c.subject_key LEFT JOIN devices d ON d.id = c.device WHERE c.serial > ? ORDER BY c.serial LIMIT ?`;
  for await (const rows of pages<CertificateRow>(storage, sql, ''))
    for (const row of rows) {
      count += 1;
      const problem = certificateProblem(row);
      if (problem) findings.say('bad', `certificate ${row.id} (${row.profile}): ${problem}`);
    }
  return findings.end(`${count} certificates: each is for what it names; serials that came to nobody are revoked`);
}

function certificateProblem(row: CertificateRow): string | undefined {
  const { id, profile, der, employee } = row;
  if (der.length === 0) return row.revoked_at === null ? 'it was never delivered and is not revoked' : undefined;
  const certificate = new X509Certificate(der);
  if (profile !== 'imported' && certificate.serialNumber.toLowerCase() !== id) return 'its serial is another one';
  if (profile === 'person' || profile === 'imported') {
    if (!row.key || row.key_employee !== employee) return 'there is no key of that person for it';
    const digest = sha256(certificate.publicKey.export({ type: 'spki', format: 'der' }));
    if (!row.key_digest || !sameBytes(digest, row.key_digest)) return 'its public key is not that of its key';
  }
  if (profile === 'device') {
    if (!row.device || row.device_employee !== employee) return 'there is no device of that person for it';
    if (!row.device_digest || !sameBytes(sha256(der), row.device_digest)) return 'its device has another certificate';
  }
  return undefined;
}

interface DeliveryRow {
  key: string;
  device: string;
  state: string | null;
  mode: string | null;
  own: number;
}

async function checkDeliveries(storage: Storage): Promise<Finding[]> {
  const findings = new Findings('deliveries');
  const sql = `SELECT v.key, v.device, d.state, k.mode, CASE WHEN k.employee = d.employee
      OR EXISTS (SELECT 1 FROM mailbox_members m WHERE m.mailbox = k.employee AND m.employee = d.employee AND m.to_time IS NULL) THEN 1 ELSE 0 END AS "own"
    FROM deliveries v LEFT JOIN keys k ON k.id = v.key LEFT JOIN devices d ON d.id = v.device WHERE (v.key, v.device) > (?, ?) ORDER BY v.key, v.device LIMIT ?`;
  let count = 0;
  for (let after = { key: '', device: '' }; ; ) {
    const rows = await storage.all<DeliveryRow>(sql, [after.key, after.device, PAGE]);
    for (const { key, device, state, mode, own } of rows)
      if (own !== 1) findings.say('bad', `a delivery of key ${key} is kept for device ${device} of somebody else`);
      else if (state !== 'active') findings.say('bad', `a delivery of key ${key} is kept for device ${device}, which is ${state}`);
      else if (mode !== 'deliver') findings.say('bad', `a delivery of key ${key} is kept, though its mode is ${mode}`);
    count += rows.length;
    const last = rows.at(-1);
    if (!last) return findings.end(`${count} kept deliveries: each of a person’s own key, for an active device`);
    after = last;
  }
}

/** Of the pairs' numbers, and of what became of them, the log speaks. */
async function checkPool(storage: Storage): Promise<{ findings: Finding[]; digests: ReadonlySet<string> }> {
  const findings = new Findings('pool');
  const digests = new Set<string>();
  for await (const rows of pages<{ id: number; public_key: Buffer }>(
    storage,
    'SELECT n AS "id", public_key FROM pool WHERE n > ? ORDER BY n LIMIT ?',
    0,
  ))
    for (const { id, public_key } of rows) {
      const digest = digestOf(public_key);
      if (digests.has(digest)) findings.say('bad', `pair ${id} is in the pool twice`);
      digests.add(digest);
    }
  return { findings: findings.end(`${digests.size} ready pairs, each there once`), digests };
}

const digestOf = (spki: Buffer): string => base64url(sha256(spki));
