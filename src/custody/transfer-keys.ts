import { subjectKeyIdentifier } from '../codec/cms/index.js';
import { type AuditActor, type AuditLog, base64url, type Clock, Fault, newId, type Storage, sha256 } from '../foundation/index.js';
import type { Sealed, Token, TransferKeyRecord } from '../tokens/index.js';
import type { TransferCard } from './transfer-shapes.js';

/** How long others may seal keys to one of these. */
const DAYS = 90;

interface TransferKeyRow {
  id: string;
  bits: number;
  kek: string;
  public_key: Buffer;
  wrapped: Buffer;
  mac: Buffer;
  expires: number;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  clock: Clock;
}

/** Keys of the token that other appliances seal people's keys to (docs/formats/transfer.md). A rotation of the KEK ends them. */
export class TransferKeys {
  constructor(private readonly parts: Parts) {}

  async make(by: AuditActor): Promise<TransferCard> {
    const { storage, audit, token, clock } = this.parts;
    const id = newId();
    const created = clock.now().getTime();
    const expires = created + DAYS * 86_400_000;
    const { sealed, publicKey, wrapped } = await token.makeTransferKey({ id, expires });
    const { bits, kek } = sealed.record;
    await storage.write(async (unit) => {
      await unit.run(
        'INSERT INTO transfer_keys (id, bits, kek, identifier, public_key, wrapped, mac, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
        [id, bits, kek, subjectKeyIdentifier(publicKey), publicKey, wrapped, sealed.mac, created, expires],
      );
      await audit.append(unit, {
        ...{ action: 'transfer.key', outcome: 'done', actor: by, subject: id },
        facts: { publicKey: sealed.record.publicKey },
      });
    });
    return { type: 'ekms-transfer-key', v: 1, id, publicKey: publicKey.toString('base64'), expires };
  }

  /** The one that a key was sealed to. Throws `transfer-key-unknown`. */
  async find(identifier: Buffer): Promise<{ transferKey: Sealed<TransferKeyRecord>; blob: { wrapped: Buffer; publicKey: Buffer } }> {
    const row = await this.parts.storage.one<TransferKeyRow>('SELECT * FROM transfer_keys WHERE identifier = ?', [identifier]);
    if (!row)
      throw new Fault(
        'not-found',
        'transfer-key-unknown',
        'this was sealed to another appliance’s transfer key, or to one that has ended here',
      );
    const { id, bits, kek, public_key: publicKey, wrapped, mac, expires } = row;
    const digests = { publicKey: base64url(sha256(publicKey)), wrapped: base64url(sha256(wrapped)) };
    return {
      transferKey: { record: { type: 'transfer', id, version: 1, bits, kek, ...digests, expires }, mac },
      blob: { wrapped, publicKey },
    };
  }
}
