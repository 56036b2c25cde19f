import { type EscrowLine, readEscrow } from '../../src/custody/escrow-journal.js';

/** A whole escrow journal at once, as short as a test makes it. */
export async function escrowLines(...of: Parameters<typeof readEscrow>): Promise<{ lines: EscrowLine[]; unreadable: number }> {
  const lines: EscrowLine[] = [];
  let unreadable = 0;
  for await (const line of readEscrow(...of))
    if (line) lines.push(line);
    else unreadable++;
  return { lines, unreadable };
}
