import type { Reader, Unit } from '../foundation/index.js';
import type { RecoveryApproval } from '../tokens/index.js';

interface SignatureRow {
  agent: string;
  signature: Buffer;
  client_data: Buffer | null;
  authenticator_data: Buffer | null;
}

/** The signatures that a paper (a case, or another list of agents) has; the token process verifies each of them itself. */
export async function signaturesOf(reader: Reader, paper: string): Promise<RecoveryApproval[]> {
  const rows = await reader.all<SignatureRow>(
    'SELECT agent, signature, client_data, authenticator_data FROM recovery_signatures WHERE paper = ? ORDER BY agent',
    [paper],
  );
  return rows.map(({ agent, signature, client_data: clientData, authenticator_data: authenticatorData }) => ({
    agent,
    signature,
    ...(clientData && authenticatorData ? { passkey: { clientData, authenticatorData } } : {}),
  }));
}

/** Writes an agent's signature down; a later one of the same agent takes its place. Resolves with how many agents have signed. */
export async function sign(unit: Unit, paper: string, { agent, signature, passkey }: RecoveryApproval, time: number): Promise<number> {
  await unit.run(
    `INSERT INTO recovery_signatures (paper, agent, signature, client_data, authenticator_data, time) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (paper, agent) DO UPDATE SET signature = excluded.signature, client_data = excluded.client_data, authenticator_data = excluded.authenticator_data`,
    [paper, agent, signature, passkey?.clientData ?? null, passkey?.authenticatorData ?? null, time],
  );
  const row = await unit.one<{ n: number }>('SELECT COUNT(*) AS "n" FROM recovery_signatures WHERE paper = ?', [paper]);
  return Number(row?.n ?? 0);
}
