import { createCipheriv, createDecipheriv } from 'node:crypto';
import { type AuditEvent, type AuditLog, type Clock, canonicalJson, type Json, type Reader, type Storage } from '../foundation/index.js';

/** What a sealed entry will be known to have said. */
interface SealedWords {
  action: string;
  employee?: string;
  subject?: string;
}

/** Keeps what sealed entries say from whoever reads the database. It is no lock in time: who holds this appliance's keys can read them sooner. */
export class Veil {
  /** @param keyOf 32 secret bytes for a salt: each encrypts one text, so the nonce may be the same */
  constructor(private readonly keyOf: (salt: Uint8Array) => Uint8Array) {}

  cover(salt: Uint8Array, text: string): Buffer {
    const cipher = createCipheriv('aes-256-gcm', this.keyOf(salt), NONCE);
    return Buffer.concat([cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
  }

  /** Throws for what was not covered by this key. */
  lift(salt: Uint8Array, covered: Uint8Array): string {
    const decipher = createDecipheriv('aes-256-gcm', this.keyOf(salt), NONCE);
    decipher.setAuthTag(covered.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(covered.subarray(0, -TAG_BYTES)), decipher.final()]).toString('utf8');
  }
}

const NONCE = Buffer.alloc(12);
const TAG_BYTES = 16;

/**
 * The entry that stands in the log for one that is sealed: place, key and counter, and a salted digest of the rest, as of any personal value. Who
 * did what to whom waits with the value.
 */
export function sealedEvent({ sealedUntil = 0, key, ...words }: AuditEvent): AuditEvent {
  return {
    action: 'entry.sealed',
    outcome: 'done',
    actor: { kind: 'system' },
    ...(key === undefined ? {} : { key }),
    facts: { until: sealedUntil },
    personal: { sealed: canonicalJson(words as unknown as Json) }, // a plain object of the schema's facts
  };
}

/** Entries by one look: an hour later there is another. */
const MOST = 1_000;

/** Unseals by itself what its date has come for, and says so in the log. */
export class SealedEntries {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly veil: Veil,
  ) {}

  /** Resolves with how many there were. */
  async unsealDue(): Promise<number> {
    const rows = await this.storage.all<{ idx: number; salt: Buffer; content: Buffer }>(
      `SELECT idx, salt, content FROM audit_sealed WHERE until <= ? ORDER BY idx LIMIT ${MOST}`,
      [this.clock.now().getTime()],
    );
    for (const { idx, salt, content } of rows) {
      const text = this.veil.lift(salt, content);
      const { employee, subject } = JSON.parse(text) as SealedWords; // written by `sealedEvent`
      await this.storage.write(async (unit) => {
        // Of two nodes, one.
        if ((await unit.run('DELETE FROM audit_sealed WHERE idx = ?', [idx])) === 0) return;
        await unit.run("INSERT INTO audit_values (idx, name, salt, value) VALUES (?, 'sealed', ?, ?)", [idx, salt, text]);
        await this.audit.append(unit, {
          action: 'entry.unseal',
          outcome: 'done',
          actor: { kind: 'system' },
          ...(employee === undefined ? {} : { employee }),
          ...(subject === undefined ? {} : { subject }),
          facts: { entry: idx },
        });
      });
    }
    return rows.length;
  }

  /** The first entry that is sealed yet; it is not pruned. */
  async first(reader: Reader = this.storage): Promise<number> {
    const row = await reader.one<{ first: number | null }>('SELECT min(idx) AS first FROM audit_sealed');
    return row?.first ?? Number.MAX_SAFE_INTEGER;
  }
}
