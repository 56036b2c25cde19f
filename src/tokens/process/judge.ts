import { z } from 'zod';
import type { JournalClaim } from '../journal.js';
import type { Warden } from '../warden.js';

export interface Judgement {
  claims: JournalClaim[];
  value: unknown;
}

/** The two asks that use something up. The warden has parsed and verified them before these shapes are read. */
const assigned = z.object({ pair: z.object({ record: z.object({ n: z.int(), suite: z.string(), bits: z.int() }) }) });
const enrolled = z.object({ enrolment: z.object({ record: z.object({ id: z.string(), expires: z.int() }) }) });

/**
 * The warden's verdict with what the ask itself uses up. Claims are met after the token acted and before the answer leaves, so a forged pair
 * or a wrong answer uses nothing up, and a second use gets nothing out.
 */
export async function judge(warden: Warden, op: string, args: unknown): Promise<Judgement> {
  const { claims, value } = await warden.run(op, args);
  if (op === 'assign') {
    const { n, suite, bits } = assigned.parse(args).pair.record;
    return { claims: [...claims, { kind: 'give', of: `${suite}-${bits}`, n }], value };
  }
  if (op === 'issueDevice') {
    const { id, expires } = enrolled.parse(args).enrolment.record;
    return { claims: [...claims, { kind: 'spend', id, expires }], value };
  }
  return { claims, value };
}
