import { createPublicKey } from 'node:crypto';
import { Fault, isFault } from '../../../src/foundation/index.js';
import type { EkmsClient, ServedKey } from '../sdk/index.js';
import { deviceOf, type KeptKey, type Store } from '../store/index.js';
import { acceptKey, addressesOf } from './delivery.js';
import { type HeldKey, heldKey, keptKey } from './held-key.js';

export interface Collected {
  keys: HeldKey[];
  /** Promised by the appliance, not made yet. */
  pending: ServedKey[];
  /** Seconds until a pending key may be there. */
  retryAfter: number | undefined;
  /** Withheld by the appliance, with its reason, while others are handed out. */
  withheld: { id: string; problem: string }[];
  /** One for each key that was refused; nothing of it was kept. */
  refused: Fault[];
}

/** Fetches all keys of the employee and keeps those whose delivery holds. What is held already stays, whatever the server lists. */
export async function collectKeys(store: Store, client: EkmsClient, now: () => Date): Promise<Collected> {
  const state = await store.read();
  const device = deviceOf(state);
  const { keys, retryAfter } = await client.keys();
  const pending = keys.filter((key) => key.state === 'pending');
  const withheld = keys.flatMap(({ id, problem }) => (problem === undefined ? [] : [{ id, problem }]));
  const refused: Fault[] = [];
  const accepted: { served: ServedKey; key: HeldKey }[] = [];
  const { id, root, deliveryKey } = device;
  const ownAddresses = (key: HeldKey) => (key.mailbox === undefined ? addressesOf(key, root) : []);
  const addresses = [device.address, ...state.keys.flatMap((kept) => ownAddresses(heldKey(kept)))];
  // Oldest first: who got another address got a certificate for it on the key of then, and later keys name that address alone.
  for (const served of keys.filter((key) => key.state !== 'pending' && key.problem === undefined).toReversed()) {
    try {
      const key = acceptKey(served, { device: id, addresses, root, deliveryKey }, now());
      assertUnchanged(key, state.keys);
      accepted.unshift({ served, key });
      addresses.push(...ownAddresses(key));
    } catch (error) {
      if (!isFault(error)) throw error;
      refused.push(error);
    }
  }
  for (const { served } of accepted)
    if (served.receipt) await store.keepReceipt({ key: served.id, act: 'deliver', ...served.receipt }, now());
  const after = await store.update((before) => ({
    ...before,
    keys: merged(
      before.keys,
      accepted.map(({ key }) => keptKey(key)),
    ),
  }));
  return { keys: after.keys.map(heldKey), pending, retryAfter, withheld, refused };
}

/** An id stands for one key pair for ever. */
function assertUnchanged(key: HeldKey, kept: readonly KeptKey[]): void {
  const before = kept.find((candidate) => candidate.id === key.id);
  const [leaf] = before ? heldKey(before).leaves : [];
  const isOther = leaf && !key.leaves[0]?.spki.equals(leaf.spki);
  if (isOther || (key.privateKey && leaf && !createPublicKey(key.privateKey).equals(leaf.publicKey)))
    throw new Fault(
      'forbidden',
      'delivery-forged',
      `the delivery of key ${key.id} was refused: this device holds another key under that id`,
    );
}

/** In the server's order, then what only this device still has. A private key that was delivered stays, also when the key has become remote since. */
function merged(before: readonly KeptKey[], fetched: readonly KeptKey[]): KeptKey[] {
  const former = new Map(before.map((key) => [key.id, key]));
  const listed = fetched.map((key) => {
    const privateKey = key.privateKey ?? former.get(key.id)?.privateKey;
    return privateKey === undefined ? key : { ...key, privateKey };
  });
  return [...listed, ...before.filter((key) => !fetched.some((other) => other.id === key.id))];
}
