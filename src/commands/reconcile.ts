import type { BegunEnrolment } from '../devices/index.js';
import { isFault } from '../foundation/index.js';
import type { House } from '../house.js';
import { fulfil, type Intent, openIntents } from '../storage/index.js';

/**
 * What a crash cut in half is finished or undone before anything is served (design §7, order). Resolves with how many intents there were.
 * @param age only intents at least this old, in milliseconds: while serving, younger ones are under way
 */
export async function reconcile(house: House, age = 0): Promise<number> {
  const before = house.clock.now().getTime() - age;
  const intents = (await openIntents(house.storage)).filter(({ created }) => created <= before);
  for (const intent of intents)
    try {
      await settle(house, intent);
    } catch (error) {
      // A key was destroyed and the second place is not there to hear it: said by its own health, and nothing that keeps an appliance from starting.
      if (isFault(error, 'second-place-away')) continue;
      if (!isFault(error) || error.kind === 'unavailable') throw error;
      // One act that cannot be finished (an old database under a newer journal) must not keep the appliance from everybody; doctor names it.
      const event = {
        action: 'appliance.reconcile',
        outcome: 'refused',
        reason: error.code,
        actor: { kind: 'system' },
        subject: intent.id,
      } as const;
      await house.storage.write((unit) => house.audit.append(unit, event));
    }
  await house.issuance.serveWaiting();
  const cut = intents.filter(({ kind }) => kind !== 'give-key').length;
  if (cut > 0)
    await house.storage.write((unit) =>
      house.audit.append(unit, { action: 'appliance.reconcile', outcome: 'done', actor: { kind: 'system' }, facts: { intents: cut } }),
    );
  return cut;
}

async function settle(house: House, { id, kind, body }: Intent): Promise<void> {
  switch (kind) {
    case 'enrol':
      await house.desk.undo(body as unknown as BegunEnrolment); // the body is what EnrolmentDesk wrote with this kind
      break;
    case 'block-device':
      await house.registry.settleBlock(id);
      break;
    case 'end-bootstrap':
      await house.administrators.bootstrap.remember();
      break;
    case 'end-devices':
      await house.registry.endAllOf(id, { kind: 'system' });
      break;
    case 'block-employee':
      await house.employees.settleBlock(id);
      break;
    case 'raise-binding':
      await house.employees.settleRaise(id);
      break;
    case 'raise-member':
      await house.mailboxes.settleRaise(id);
      break;
    case 'end-case':
      await house.recoveries.settleEnd(id);
      break;
    case 'end-transfer':
      await house.transfers.settleEnd(id);
      break;
    case 'hold':
      await house.lives.settleHold(id);
      break;
    case 'raise-agents':
      await house.recoveryAgents.settleRaise();
      break;
    case 'change-key':
      await house.vault.settleChange(id);
      break;
    case 'take-key':
      // Not stored: whoever asked for it asks again, and whoever brought it finds its claim gone.
      await house.storage.write((unit) => fulfil(unit, id));
      break;
    case 'certify':
      await house.addressCertificates.undo(id, String(body['serial']));
      break;
    case 'accept-log':
      await house.logAcceptances.settle(id, body);
      break;
    case 'give-key':
      // Not cut off but waiting: served below and whenever the pool has a pair.
      break;
  }
}
