import type { KeyObject } from 'node:crypto';
import { Fault } from '../../../src/foundation/index.js';
import { chainOf, type HeldKey, openerFor, openWrapped, type RemoteDecryption } from '../keys/index.js';
import { type Unwrapped, unwrap } from '../mime/index.js';
import type { EkmsClient, RecoveryCase } from '../sdk/index.js';

/**
 * Opens by the cases that let this device's person read somebody's mailbox for a time: one content key at a time, each an entry of the log that names them.
 * Undefined where there is none.
 */
export async function openAsReader(mail: Buffer, client: EkmsClient, deliveryKey: KeyObject): Promise<Unwrapped | undefined> {
  const cases = (await client.recoveries()).filter(({ reading, approvals, quorum }) => reading && approvals >= quorum);
  if (cases.length === 0) return undefined;
  const caseOf = new Map(cases.flatMap((found) => found.keys.map((key) => [key.id, found.id] as const)));
  return unwrap(
    mail,
    openerFor(cases.flatMap(heldBy), (key, ask) => contentKey(client, { of: caseOf.get(key.id) ?? '', key: key.id, ask, deliveryKey })),
  );
}

/** The content key of one message, which the token sealed to this device. */
export async function contentKey(
  client: EkmsClient,
  { of, key, ask, deliveryKey }: { of: string; key: string; ask: Parameters<RemoteDecryption>[1]; deliveryKey: KeyObject },
): Promise<Buffer> {
  const { wrapped, hash } = await client.openRecovery(of, key, ask);
  if (wrapped === null || hash === null) throw unasked();
  return openWrapped(deliveryKey, Buffer.from(wrapped, 'base64'), hash);
}

/** The keys of a case as if they stayed in the appliance: each is asked for when a mail names it. */
export function heldBy({ keys }: RecoveryCase): HeldKey[] {
  return keys.map(({ certificates, ...key }) => ({ ...key, ...chainOf(certificates), mode: 'remote', privateKey: undefined }));
}

export const unasked = () => new Fault('unavailable', 'answer-malformed', 'the appliance answered with something that was not asked for');
