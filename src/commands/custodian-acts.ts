import { z } from 'zod';
import { remember } from '../custody/index.js';
import { type AuditActor, base64url, canonicalJson, Fault, type Json, sha256 } from '../foundation/index.js';
import type { House } from '../house.js';
import { type CustodyPlan, custodyPlanShape, parsePackage } from '../tokens/index.js';
import { act } from './act.js';

/** In `settings`, from the decision to the entry that it was done. */
export const PERMIT = 'custody.reissue';
/** Hours in which custodians have to come together once it was decided who they are. */
const HOURS = 72;

export interface Permit {
  plan: string;
  /** Ceremony whose shares are in force. */
  former: string;
  until: number;
}

export const digestOfPlan = (plan: CustodyPlan): string => base64url(sha256(canonicalJson(plan as unknown as Json)));

/** Who the custodians are to be is for two persons; that it is done, for M of those who are custodians now. */
export const CUSTODIAN_ACTS = {
  'custody.permit': act({
    args: z.strictObject({ plan: custodyPlanShape }),
    roles: ['operator', 'security-officer'],
    danger: 'two-persons',
    perform: (house, { plan }, by) => permit(house, plan, by),
  }),
} as const;

async function permit(house: House, plan: CustodyPlan, by: AuditActor): Promise<{ permitted: string; until: string }> {
  const { storage, audit, clock } = house;
  const until = clock.now().getTime() + HOURS * 3_600_000;
  const digest = digestOfPlan(plan);
  const former = await ceremonyOf(house);
  await storage.write(async (unit) => {
    await remember(unit, PERMIT, { plan: digest, former, until } satisfies Permit);
    await audit.append(unit, {
      action: 'custody.permit',
      outcome: 'done',
      actor: by,
      facts: { plan: digest, threshold: plan.threshold, shares: plan.custodians.length },
    });
  });
  return { permitted: digest, until: new Date(until).toISOString() };
}

export async function ceremonyOf({ token }: House): Promise<string> {
  const text = await token.custody();
  if (text === null)
    throw new Fault('conflict', 'no-custodians', 'this appliance was made without custodians: its keys cannot leave its token any more');
  return base64url(parsePackage(text).package.ceremony);
}
