import { certificateTimes, insertCertificate, type RevocationLists, serialOf } from '../certificates/index.js';
import type { AuditLog, Clock, Storage, Unit } from '../foundation/index.js';
import { type GivenCertificate, type GivenKey, KeyStore, type StoredKey, type TakenKey } from '../keys/index.js';
import { type KeyRecord, keksOf, parsePackage, type Token } from '../tokens/index.js';
import { type EscrowLine, KeysInEscrow, readEscrow } from './escrow-journal.js';
import type { KeyLives } from './key-lives.js';
import { storeTakenKey } from './store-taken-key.js';

const BY = { kind: 'system' } as const;

export interface FromEscrow {
  keys: number;
  changes: number;
  unreadable: number;
  /** Keys whose last version is under a KEK that the token has no more: they are as they were under one that it has, or not at all. */
  unopenable: number;
  /** Destructions that were not carried out: their persons' keys are on hold in what was restored. */
  held: number;
}

/**
 * Brings a restored database up to the escrow journal: keys given after the backup, with their owners and certificates, and later states of
 * keys. Before the pool is destroyed: a pair given out since is still in it. May be done again: what is there already is left as it is. Nobody's key is
 * destroyed by it while a hold on them is in force: such a key comes back as it was before.
 */
export async function takeFromEscrow(
  house: { storage: Storage; audit: AuditLog; token: Token; clock: Clock; revocations: RevocationLists; lives: KeyLives },
  folder: string,
): Promise<FromEscrow> {
  const onHold = await peopleOnHold(house.storage);
  const found = new KeysInEscrow();
  /** Destructions of keys of somebody on hold. */
  const held = new Map<string, KeyRecord>();
  let unreadable = 0;
  const unopenable = new Set<string>();
  const custody = await house.token.custody();
  const keks = custody === null ? undefined : new Set(keksOf(parsePackage(custody).package));
  for await (const line of readEscrow(folder, house.token)) {
    if (!line) unreadable++;
    else if (keks && isLost(line, keks)) unopenable.add(line.key.sealed.record.id);
    else if (line.t === 'change' && isHeld(line.key.sealed, onHold)) held.set(line.key.sealed.record.id, line.key.sealed.record);
    else found.see(line);
  }
  const store = new KeyStore();
  let changes = 0;
  let keys = 0;
  // Former keys first: a person has one active key at a time.
  for (const key of found.newest.values()) if (await house.storage.write((unit) => raise(unit, house.audit, store, key))) changes++;
  // Latest first: of two that were given and of which a crash kept one from its person, the later is theirs; the other stays for reading.
  for (const [id, one] of [...found.given].toReversed()) {
    const key = await withoutRival(house, found.newestOf(id));
    if (await house.storage.write((unit) => insert(unit, house, store, { ...one, key }))) keys++;
  }
  for (const one of found.taken.values()) {
    const key = found.newestOf(one.id);
    if (await house.storage.write((unit) => take(unit, house, { ...one, key }))) keys++;
    if (one.life) await house.lives.settleHold(`hold:${key.sealed.record.employee}`);
  }
  for (const one of found.certificates) await house.storage.write((unit) => certify(unit, house.audit, one));
  await endCertificates(house);
  for (const { id, employee } of held.values())
    await house.storage.write((unit) =>
      house.audit.append(unit, { action: 'key.change', outcome: 'refused', reason: 'key-held', actor: BY, employee, key: id, subject: id }),
    );
  return { keys, changes, unreadable, unopenable: unopenable.size, held: held.size };
}

/** That a certificate was revoked the journal does not tell; that its key is compromised or destroyed it does. Nobody is to encrypt to such a key again. */
async function endCertificates({ storage, revocations }: { storage: Storage; revocations: RevocationLists }): Promise<void> {
  const sql = `SELECT c.serial AS "serial", k.state AS "state" FROM certificates c JOIN keys k ON k.id = c.subject_key
    WHERE c.profile = 'person' AND c.revoked_at IS NULL AND k.state IN ('compromised', 'destroyed')`;
  const ended = await storage.write(async (unit) => {
    const rows = await unit.all<{ serial: string; state: string }>(sql);
    for (const { serial, state } of rows)
      await revocations.revoke(unit, serial, state === 'compromised' ? 'keyCompromise' : 'cessationOfOperation', BY);
    return rows.length;
  });
  if (ended > 0) await revocations.publish('people');
}

async function peopleOnHold(storage: Storage): Promise<Set<string>> {
  const rows = await storage.all<{ employee: string }>('SELECT DISTINCT employee FROM key_holds WHERE lifted IS NULL');
  return new Set(rows.map(({ employee }) => employee));
}

/** A version that nothing here could open: whoever took it over one that opens would lose the key. */
const isLost = (line: EscrowLine, keks: ReadonlySet<string>): line is Extract<EscrowLine, { key: StoredKey }> =>
  (line.t === 'key' || line.t === 'import' || line.t === 'change') &&
  line.key.sealed.record.state !== 'destroyed' &&
  !keks.has(line.key.sealed.record.kek);

const isHeld = ({ record }: StoredKey['sealed'], onHold: ReadonlySet<string>): boolean =>
  record.state === 'destroyed' && onHold.has(record.employee);

/** A person has one active key: a further one is for reading only. */
async function withoutRival({ storage, token }: { storage: Storage; token: Token }, key: StoredKey): Promise<StoredKey> {
  const { id, employee, state } = key.sealed.record;
  const rival =
    state === 'active' && (await storage.one("SELECT id FROM keys WHERE employee = ? AND state = 'active' AND id <> ?", [employee, id]));
  return rival ? { ...key, sealed: await token.changeKey(key.sealed, { state: 'deactivated' }) } : key;
}

async function raise(unit: Unit, audit: AuditLog, store: KeyStore, next: StoredKey): Promise<boolean> {
  const { id, version, state, mode, employee } = next.sealed.record;
  const known = await store.find(unit, id);
  // The same version under another KEK is newer too: the journal's last word comes after the backup's.
  // What was destroyed stays so.
  if (
    !known ||
    known.sealed.record.state === 'destroyed' ||
    known.sealed.record.version > version ||
    known.sealed.mac.equals(next.sealed.mac)
  )
    return false;
  await store.overwrite(unit, next);
  await audit.append(unit, {
    action: 'key.change',
    outcome: 'done',
    reason: 'escrow',
    actor: BY,
    employee,
    key: id,
    facts: { version, state, mode },
  });
  return true;
}

async function insert(
  unit: Unit,
  { audit, clock }: { audit: AuditLog; clock: Clock },
  store: KeyStore,
  { n, key, binding, certificate }: GivenKey,
): Promise<boolean> {
  const { record } = key.sealed;
  if (await store.find(unit, record.id)) return false;
  const event = { outcome: 'done', reason: 'escrow', actor: BY, employee: record.employee } as const;
  const { sealed } = binding;
  await owner(unit, audit, record, binding);
  await store.insert(unit, key, clock.now().getTime());
  const times = certificateTimes(certificate);
  // Born before the backup, it was in the pool then; else its birth is not in the log.
  const born = (await unit.run('DELETE FROM pool WHERE n = ?', [n])) > 0;
  const { suite, bits, kek, publicKey } = record;
  if (!born) await audit.append(unit, { ...event, action: 'key.birth', facts: { n, suite, bits, kek, publicKey } });
  await audit.append(unit, { ...event, action: 'key.assign', subject: record.id, facts: { n, publicKey, mode: record.mode } });
  const serial = serialOf(certificate);
  if (!(await unit.one('SELECT serial FROM certificates WHERE serial = ?', [serial]))) {
    await insertCertificate(unit, {
      serial,
      authority: 'people',
      profile: 'person',
      der: certificate,
      ...times,
      key: record.id,
      employee: record.employee,
      address: sealed.record.address,
    });
    await audit.append(unit, { ...event, action: 'certificate.issue', subject: serial, personal: { address: sealed.record.address } });
  }
  return true;
}

/** A further certificate of a key that is here, for an address that is its owner's. */
async function certify(unit: Unit, audit: AuditLog, { key, employee, address, serial, certificate }: GivenCertificate): Promise<void> {
  if (await unit.one('SELECT serial FROM certificates WHERE serial = ?', [serial])) return;
  const sql =
    'SELECT k.id FROM keys k JOIN bindings b ON b.employee = k.employee AND b.to_time IS NULL AND b.address = ? WHERE k.id = ? AND k.employee = ?';
  if (!(await unit.one(sql, [address, key, employee]))) return;
  const times = certificateTimes(certificate);
  await insertCertificate(unit, { serial, authority: 'people', profile: 'person', der: certificate, ...times, key, employee, address });
  const event = { action: 'certificate.issue', outcome: 'done', reason: 'escrow', actor: BY, employee } as const;
  await audit.append(unit, { ...event, subject: serial, personal: { address } });
}

async function take(
  unit: Unit,
  { audit, clock, lives }: { audit: AuditLog; clock: Clock; lives: KeyLives },
  { key, binding, certificates, life }: TakenKey,
): Promise<boolean> {
  const { record } = key.sealed;
  if (await unit.one('SELECT id FROM keys WHERE public_key_digest = ?', [Buffer.from(record.publicKey, 'base64url')])) return false;
  await owner(unit, audit, record, binding);
  await storeTakenKey(unit, audit, { key, certificates, now: clock.now(), reason: 'escrow', by: BY });
  if (life) await lives.received(unit, { key: record.id, employee: record.employee, life }, BY);
  return true;
}

/** The owner of a key, and their address, where the backup does not know them yet. */
async function owner(unit: Unit, audit: AuditLog, { employee, mode, shared }: KeyRecord, binding: TakenKey['binding']): Promise<void> {
  const event = { outcome: 'done', reason: 'escrow', actor: BY, employee } as const;
  if (!(await unit.one('SELECT id FROM employees WHERE id = ?', [employee]))) {
    await unit.run("INSERT INTO employees (id, state, mode, created, directory_id, kind) VALUES (?, 'active', ?, ?, ?, ?)", [
      employee,
      mode === 'quorum' ? mode : null,
      binding?.sealed.record.from ?? 0,
      binding?.sealed.record.directory ?? null,
      shared ? 'mailbox' : null,
    ]);
    await audit.append(unit, { ...event, action: 'employee.create' });
  }
  if (!binding) return;
  const { sealed, shown } = binding;
  const held = await unit.one('SELECT id FROM bindings WHERE id = ? OR (address = ? AND to_time IS NULL)', [
    sealed.record.id,
    sealed.record.address,
  ]);
  if (!held) {
    const { id, version, address, from, directory } = sealed.record;
    await unit.run(
      'INSERT INTO bindings (id, version, employee, address, shown, from_time, to_time, directory, mac) VALUES (?, ?, ?, ?, ?, ?, NULL, ?, ?)',
      [id, version, employee, address, shown, from, directory ?? null, sealed.mac],
    );
    await audit.append(unit, { ...event, action: 'binding.begin', subject: id, personal: { address } });
  }
}
