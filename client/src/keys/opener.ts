import type { KeyObject } from 'node:crypto';
import { Fault } from '../../../src/foundation/index.js';
import {
  cipherOf,
  type Enveloped,
  isNamedBy,
  openContent,
  openTransport,
  type Recipient,
  type RecipientId,
  type Transport,
  type TransportName,
  transportName,
  transportOf,
} from '../cms/index.js';
import type { Opener } from '../mime/index.js';
import { nameText } from '../x509/index.js';
import type { HeldKey } from './held-key.js';

/** The appliance's help for a key that stays there. `scheme` is what its interface knows. */
export type RemoteDecryption = (
  key: HeldKey,
  ask: { scheme: TransportName; encryptedKey: Buffer; length: 16 | 24 | 32 },
) => Promise<Buffer>;

/** The mail cannot be opened with what this device holds. */
export class CannotDecrypt extends Error {
  override readonly name = 'CannotDecrypt';

  constructor(
    message: string,
    /** None of the keys that are held is named. */
    readonly isForOtherKeys = false,
  ) {
    super(message);
  }
}

/** Opens a mail's envelope. */
export function openerFor(held: readonly HeldKey[], remotely: RemoteDecryption): Opener {
  return (enveloped) => openOneOf([enveloped], held, remotely, 'mail');
}

/**
 * Picks the key that one of the envelopes names among all that the device holds, current and former, by any certificate that the key ever had. The first
 * envelope that opens counts.
 */
export async function openOneOf(
  envelopes: readonly Enveloped[],
  held: readonly HeldKey[],
  remotely: RemoteDecryption,
  what: 'mail' | 'document',
): Promise<{ content: Buffer; by: string }> {
  const named = envelopes.flatMap((enveloped) =>
    enveloped.recipients.flatMap((recipient) => held.filter((key) => isFor(recipient, key)).map((key) => ({ enveloped, recipient, key }))),
  );
  if (named.length === 0)
    throw new CannotDecrypt(
      `no key of this device opens this ${what}.\n${described(envelopes, held, what)}\nIf the ${what} is new, "mesign keys" fetches newer keys.`,
      true,
    );
  const failures: string[] = [];
  for (const { enveloped, recipient, key } of named) {
    try {
      const cipher = cipherOf(enveloped);
      const contentKey = await contentKeyOf(recipient, key, cipher.keyLength, remotely);
      const content = contentKey && openContent(enveloped, contentKey);
      if (content)
        return {
          content,
          by: `key ${key.id} (${key.suite}, ${key.state}, ${key.mode}), ${recipient.algorithm.oid === RSA ? 'RSA PKCS#1 v1.5' : 'RSA-OAEP'}, ${cipher.name}`,
        };
      failures.push(`key ${key.id} is named, but the ${what} does not open with it: it was damaged or changed on the way`);
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'algorithm-unsupported') throw error;
      failures.push(`key ${key.id}: ${error.message}`);
    }
  }
  throw new CannotDecrypt(`${failures.join('\n')}\n${described(envelopes, held, what)}`);
}

const RSA = '1.2.840.113549.1.1.1';

const isFor = (recipient: Recipient, key: HeldKey): boolean => key.leaves.some((leaf) => isNamedBy(recipient.id, leaf));

async function contentKeyOf(
  recipient: Recipient,
  key: HeldKey,
  length: 16 | 24 | 32,
  remotely: RemoteDecryption,
): Promise<Buffer | undefined> {
  const transport = transportOf(recipient.algorithm);
  if (key.privateKey) return openTransport(key.privateKey, transport, recipient.encryptedKey);
  return remotely(key, { scheme: remoteScheme(transport), encryptedKey: recipient.encryptedKey, length });
}

function remoteScheme(transport: Transport): TransportName {
  const name = transportName(transport);
  if (name) return name;
  const words = 'the appliance, where this key stays, opens RSA PKCS#1 v1.5, and RSA-OAEP with SHA-1 or SHA-256 and no label';
  throw new Fault('malformed', 'algorithm-unsupported', words);
}

function described(envelopes: readonly Enveloped[], held: readonly HeldKey[], what: 'mail' | 'document'): string {
  const recipients = envelopes.flatMap((enveloped) => enveloped.recipients.map((recipient) => `  ${idText(recipient.id)}`)).slice(0, 50);
  const others = envelopes.reduce((sum, enveloped) => sum + enveloped.otherRecipients, 0);
  if (others > 0) recipients.push(`  ${others} more of a kind that is not opened here (key agreement, pass phrase, shared key)`);
  const keys = held.map(
    (key) => `  ${key.id} (${key.suite}, ${key.state}, ${key.mode}): ${key.leaves.map((leaf) => `serial ${hex(leaf.serial)}`).join(', ')}`,
  );
  return `The ${what} names as recipients:\n${recipients.join('\n') || '  nobody'}\nThis device holds:\n${keys.join('\n') || '  no key'}`;
}

export const idText = (id: RecipientId): string =>
  'keyIdentifier' in id ? `key identifier ${hex(id.keyIdentifier)}` : `serial ${hex(id.serial)} of issuer ${nameText(id.issuer)}`;
const hex = (bytes: Buffer): string => bytes.toString('hex');

/** The content key that the appliance wrapped for this device. */
export function openWrapped(deliveryKey: KeyObject, wrapped: Buffer, hash: 'sha1' | 'sha256'): Buffer {
  const key = openTransport(deliveryKey, { scheme: 'oaep', hash, mgfHash: hash, label: Buffer.alloc(0) }, wrapped);
  if (!key) throw new Fault('forbidden', 'answer-foreign', 'the appliance answered for another device: the delivery key does not open it');
  return key;
}
