import { createPrivateKey, createPublicKey, type KeyObject, privateDecrypt, publicEncrypt, randomBytes } from 'node:crypto';
import * as z from 'zod/mini';
import { base64url, Fault, fromBase64, isFault, parseAddress, sameBytes, sha256 } from '../../../src/foundation/index.js';
import { CONTENT, cipherOf, openContent, openTransport, readContentInfo, readEnveloped, transportOf } from '../cms/index.js';
import type { ServedKey } from '../sdk/index.js';
import { type Certificate, chainToRoot, openStatement, subjectKeyIdentifier, USAGE } from '../x509/index.js';
import { chainOf, type HeldKey } from './held-key.js';

/** Whose delivery it must be. */
export interface Receiver {
  device: string;
  /** Addresses of the person, as far as this device knows: that of its enrolment, and those in certificates of keys that it took before. */
  addresses: readonly string[];
  root: Certificate;
  deliveryKey: KeyObject;
}

const payload = z.strictObject({
  v: z.literal(1),
  delivery: z.string(),
  device: z.string(),
  key: z.string(),
  publicKey: z.string(),
  time: z.iso.datetime(),
});

const forged = (why: string) => new Fault('forbidden', 'delivery-forged', why);

/**
 * Takes a served key only if everything about it holds (docs/formats/delivery.md); throws `delivery-forged` with the key's id and the reason otherwise.
 * A delivery is data from a network: what the TLS connection said about its sender is not trusted here.
 */
export function acceptKey(served: ServedKey, receiver: Receiver, now: Date): HeldKey {
  try {
    const { id, suite, state, mode, mailbox } = served;
    if (suite !== 'rsa') throw forged(`its suite "${suite}" is unknown to this version of mesign`);
    const { leaves, authorities } = chainOf(served.certificates);
    // A key from outside has certificates of other authorities; it is for reading only, so nothing is ever encrypted by them.
    if (served.imported && state === 'active') throw forged('a key from outside is never the active one');
    assertOneKey(leaves);
    // Of a mailbox that several people read; the device says so of it, and encrypts nothing to itself by it.
    const whose = mailbox === undefined ? receiver : { ...receiver, addresses: [mailbox] };
    if (!served.imported) assertOwn(leaves, authorities, whose, now);
    const privateKey = mode === 'deliver' ? openDelivery(served, leaves, receiver, now) : undefined;
    if (mode === 'remote' && (served.delivery !== null || served.signature !== null))
      throw forged('a key that stays in the appliance came with a delivery');
    return { id, suite, state, mode, mailbox, leaves, authorities, privateKey };
  } catch (error) {
    if (isFault(error)) throw forged(`the delivery of key ${served.id} was refused: ${error.message}`);
    throw error;
  }
}

/**
 * Somebody else's key that recovery agents had sealed to this device: it opens, and is the key of the certificates that came with it. It is for
 * reading only, so nobody's word for those certificates is needed. Throws `delivery-forged`.
 */
export function acceptRecovered(der: Buffer, pems: readonly string[], deliveryKey: KeyObject): KeyObject {
  const { leaves } = chainOf(pems);
  const privateKey = openEnvelope(der, deliveryKey);
  if (leaves.length === 0 || leaves.some((leaf) => !belongTogether(privateKey, leaf.publicKey)))
    throw forged('what was recovered is not the key of its certificates');
  return privateKey;
}

function assertOneKey(leaves: Certificate[]): void {
  const [newest] = leaves;
  if (!newest) throw forged('it came without a certificate');
  if (leaves.some((leaf) => !leaf.spki.equals(newest.spki))) throw forged('its certificates are not all for one key');
}

function assertOwn(leaves: Certificate[], authorities: Certificate[], receiver: Receiver, now: Date): void {
  // A person's addresses change and the key stays: the newest certificate may name another address than the one this device enrolled by.
  const own = leaves.find(({ addresses }) => addresses.some((address) => receiver.addresses.some((mine) => isSameAddress(address, mine))));
  if (!own) throw forged(`its certificate names ${leaves[0]?.addresses.join(', ') || 'nobody'}, not ${receiver.addresses.join(' or ')}`);
  // A former key opens old mail long after its certificate, and perhaps that of its authority, has ended.
  const at = now > own.notAfter ? undefined : now;
  chainToRoot({ leaf: own, among: authorities, root: receiver.root, usage: USAGE.emailProtection, at });
}

/** What a key's certificates call its person, by those that end in the pinned root. */
export function addressesOf({ leaves, authorities }: Pick<HeldKey, 'leaves' | 'authorities'>, root: Certificate): string[] {
  return leaves.flatMap((leaf) => {
    try {
      chainToRoot({ leaf, among: authorities, root, usage: USAGE.emailProtection, at: undefined });
      return leaf.addresses;
    } catch (error) {
      if (isFault(error)) return [];
      throw error;
    }
  });
}

function isSameAddress(certified: string, own: string): boolean {
  try {
    return parseAddress(certified).key === parseAddress(own).key;
  } catch {
    return false;
  }
}

function openDelivery(served: ServedKey, leaves: Certificate[], receiver: Receiver, now: Date): KeyObject {
  const der = served.delivery === null ? undefined : fromBase64(served.delivery, 'base64');
  if (!der || served.signature === null) throw forged('delivery or signature is missing');
  const claim = openStatement(served.signature, { typ: 'ekms-delivery+jws', shape: payload, root: receiver.root, now });
  if (claim.device !== receiver.device) throw forged('it was signed for another device');
  if (claim.key !== served.id) throw forged('it was signed for another key');
  if (claim.delivery !== base64url(sha256(der))) throw forged('its digest is not the signed one');
  const privateKey = openEnvelope(der, receiver.deliveryKey);
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  if (claim.publicKey !== base64url(sha256(spki))) throw forged('the private key is not the signed one');
  for (const leaf of leaves)
    if (!sameBytes(leaf.spki, spki) || !belongTogether(privateKey, leaf.publicKey))
      throw forged('the private key does not fit its certificate');
  return privateKey;
}

function openEnvelope(der: Buffer, deliveryKey: KeyObject): KeyObject {
  const enveloped = readEnveloped(readContentInfo(der));
  const [recipient] = enveloped.recipients;
  const own = subjectKeyIdentifier(createPublicKey(deliveryKey).export({ type: 'spki', format: 'der' }));
  const isOurs = recipient && 'keyIdentifier' in recipient.id && recipient.id.keyIdentifier.equals(own);
  const isRight =
    enveloped.recipients.length === 1 &&
    enveloped.otherRecipients === 0 &&
    enveloped.contentType === CONTENT.data &&
    cipherOf(enveloped).form === 'wrap';
  const transport = recipient && transportOf(recipient.algorithm);
  if (!isOurs || !isRight || transport?.scheme !== 'oaep')
    throw forged('its envelope is not for the delivery key of this device, or not of the known form');
  const contentKey = openTransport(deliveryKey, transport, recipient.encryptedKey);
  const plain = contentKey && openContent(enveloped, contentKey);
  if (!plain) throw forged('its envelope does not open');
  try {
    return createPrivateKey({ key: plain, format: 'der', type: 'pkcs8' });
  } catch {
    throw forged('it holds no private key');
  } finally {
    plain.fill(0);
  }
}

/** A private key carries its public half as a mere claim: only an operation shows that the two belong together. */
function belongTogether(privateKey: KeyObject, publicKey: KeyObject): boolean {
  try {
    const probe = randomBytes(32);
    return privateDecrypt(privateKey, publicEncrypt(publicKey, probe)).equals(probe);
  } catch {
    return false;
  }
}
