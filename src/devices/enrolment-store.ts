import type { Reader, Unit } from '../foundation/index.js';
import type { EnrolmentRecord, Sealed } from '../tokens/index.js';
import type { Registration } from './registered-devices.js';

/** `open`: waits for the mailed half. `waiting`: answered, waits for a second proof. `approved`: may be finished. `spent`, `denied`: over. */
export type EnrolmentState = 'open' | 'waiting' | 'approved' | 'denied' | 'spent';
export type SecondProof = 'device' | 'approval' | 'directory';

export interface Enrolment {
  sealed: Sealed<EnrolmentRecord>;
  shown: string;
  /** SPKI DER of delivery and identity key. */
  deliveryKey: Buffer;
  spki: Buffer;
  nonceDigest: Buffer;
  platform: string;
  name: string | null;
  app: string;
  challenge: string;
  state: EnrolmentState;
  waitsFor: SecondProof | null;
  /** Of the machine, where policy asked for one, and its seal. */
  registration: Registration | null;
  registrationMac: Buffer | null;
  /** Seal of a yes. */
  decision: Buffer | null;
  attempts: number;
  /** Until when an answer counts, in milliseconds; the sealed record's own `expires` says until when a certificate may be issued. */
  answerBy: number;
  requested: number;
}

interface EnrolmentRow {
  id: string;
  version: number;
  address: string;
  shown: string;
  answer: string;
  jkt: string;
  delivery: string;
  delivery_key: Buffer;
  spki: Buffer;
  nonce_digest: Buffer;
  platform: string;
  name: string | null;
  app: string;
  challenge: string;
  state: EnrolmentState;
  waits_for: SecondProof | null;
  decision: Buffer | null;
  registration: string | null;
  registration_mac: Buffer | null;
  attempts: number;
  expires: number;
  issue_by: number;
  requested: number;
  mac: Buffer;
}

const enrolment = (row: EnrolmentRow): Enrolment => ({
  sealed: {
    record: {
      type: 'enrolment',
      id: row.id,
      version: row.version,
      address: row.address,
      answer: row.answer,
      jkt: row.jkt,
      delivery: row.delivery,
      expires: row.issue_by,
    },
    mac: row.mac,
  },
  shown: row.shown,
  deliveryKey: row.delivery_key,
  spki: row.spki,
  nonceDigest: row.nonce_digest,
  platform: row.platform,
  name: row.name,
  app: row.app,
  challenge: row.challenge,
  state: row.state,
  waitsFor: row.waits_for,
  decision: row.decision,
  registration: row.registration === null ? null : registrationOf(row.registration),
  registrationMac: row.registration_mac,
  attempts: row.attempts,
  answerBy: row.expires,
  requested: row.requested,
});

function registrationOf(text: string): Registration {
  const [source, subject = ''] = text.split(' ');
  return { source: source === 'mdm' ? 'mdm' : 'list', subject };
}

export async function findEnrolment(reader: Reader, id: string): Promise<Enrolment | undefined> {
  const row = await reader.one<EnrolmentRow>('SELECT * FROM enrolments WHERE id = ?', [id]);
  return row && enrolment(row);
}

/** Answered enrolments of these addresses that wait for a second proof, oldest first. */
export async function waitingEnrolments(
  reader: Reader,
  waitsFor: SecondProof | undefined,
  addresses?: readonly string[],
): Promise<Enrolment[]> {
  if (addresses?.length === 0) return [];
  const among = addresses ? ` AND address IN (${addresses.map(() => '?').join(', ')})` : '';
  const kind = waitsFor ? ' AND waits_for = ?' : '';
  const rows = await reader.all<EnrolmentRow>(`SELECT * FROM enrolments WHERE state = 'waiting'${among}${kind} ORDER BY requested`, [
    ...(addresses ?? []),
    ...(waitsFor ? [waitsFor] : []),
  ]);
  return rows.map(enrolment);
}

export async function insertEnrolment(unit: Unit, entry: Enrolment): Promise<void> {
  const { record, mac } = entry.sealed;
  await unit.run(
    `INSERT INTO enrolments (id, version, address, shown, answer, jkt, delivery, delivery_key, spki, nonce_digest, platform, name, app, challenge, state, waits_for, attempts, expires, issue_by, requested, mac, registration, registration_mac)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    [
      record.id,
      record.version,
      record.address,
      entry.shown,
      record.answer,
      record.jkt,
      record.delivery,
      entry.deliveryKey,
      entry.spki,
      entry.nonceDigest,
      entry.platform,
      entry.name,
      entry.app,
      entry.challenge,
      entry.state,
      entry.waitsFor,
      entry.attempts,
      entry.answerBy,
      record.expires,
      entry.requested,
      mac,
      entry.registration && `${entry.registration.source} ${entry.registration.subject}`,
      entry.registrationMac,
    ],
  );
}

/** Compare and set: true for exactly one of any number of callers. */
export async function moveEnrolment(
  unit: Unit,
  id: string,
  from: EnrolmentState,
  to: EnrolmentState,
  waitsFor: SecondProof | null = null,
): Promise<boolean> {
  return (await unit.run('UPDATE enrolments SET state = ?, waits_for = ? WHERE id = ? AND state = ?', [to, waitsFor, id, from])) === 1;
}
