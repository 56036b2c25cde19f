import type { Clock, Reader, Unit } from '../foundation/index.js';

/** Kinds of acts that span database and token, and so can be cut in half by a crash. */
export type IntentKind =
  | 'raise-binding'
  | 'raise-agents'
  | 'raise-member'
  | 'end-case'
  | 'end-transfer'
  | 'hold'
  | 'block-employee'
  | 'block-device'
  | 'end-devices'
  | 'end-bootstrap'
  | 'enrol'
  | 'give-key'
  | 'change-key'
  | 'take-key'
  | 'certify'
  | 'accept-log';

export interface Intent {
  id: string;
  kind: IntentKind;
  body: Record<string, string>;
  created: number;
}

/** Writes down what is begun, to be finished or undone after a crash; deleted in the unit that finishes it (design §7, order). */
export async function intend(unit: Unit, id: string, kind: IntentKind, body: Record<string, string>, clock: Clock): Promise<void> {
  await unit.run('INSERT INTO intents (id, kind, body, created) VALUES (?, ?, ?, ?)', [
    id,
    kind,
    JSON.stringify(body),
    clock.now().getTime(),
  ]);
}

export async function fulfil(unit: Unit, id: string): Promise<void> {
  await unit.run('DELETE FROM intents WHERE id = ?', [id]);
}

export async function openIntents(reader: Reader): Promise<Intent[]> {
  const rows = await reader.all<{ id: string; kind: IntentKind; body: string; created: number }>(
    'SELECT id, kind, body, created FROM intents ORDER BY created, id',
  );
  return rows.map((row) => ({ ...row, body: JSON.parse(row.body) as Record<string, string> })); // only `intend` writes this column
}
