import type { Employees } from '../access/index.js';
import { type AuditActor, type AuditLog, type Clock, Fault, isFault, newSerial, type Reader, type Storage } from '../foundation/index.js';
import { KeyStore, OnePlace, type SecondPlace } from '../keys/index.js';
import { fulfil, intend } from '../storage/index.js';
import { type Authorities, authorityId, type Token } from '../tokens/index.js';
import { insertCertificate } from './certificate-store.js';
import { certificateTimes } from './certificate-times.js';
import type { KeyIssuance, KeyIssuanceSettings } from './key-issuance.js';
import { OneByOne } from './one-by-one.js';

/** Certificates for further addresses of a person, on the key that they have: a mover's new address, an alias. */
export class AddressCertificates {
  readonly #keys = new KeyStore();

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly token: Token,
    private readonly employees: Employees,
    private readonly issuance: KeyIssuance,
    private readonly clock: Clock,
    private readonly settings: Pick<KeyIssuanceSettings, 'personDays' | 'urls'>,
    private readonly authorities: Pick<Authorities, 'refresh' | 'serving' | 'requireRevocable'>,
    private readonly second: SecondPlace = new OnePlace(),
  ) {}

  /** Issues what is missing for the addresses that the directory gave to active people. Resolves with how many. */
  async issueMissing(by: AuditActor): Promise<number> {
    const missing = await this.storage.all<{ address: string; key: string }>(
      `SELECT b.address AS "address", k.id AS "key" FROM bindings b JOIN keys k ON k.employee = b.employee AND k.state = 'active'
       WHERE b.to_time IS NULL AND b.directory IS NOT NULL AND EXISTS (SELECT 1 FROM employees e WHERE e.id = b.employee AND e.state = 'active')
       AND NOT EXISTS (SELECT 1 FROM certificates c WHERE c.subject_key = k.id AND c.address = b.address AND c.profile = 'person' AND c.revoked_at IS NULL)
       ORDER BY b.address`,
    );
    const each = new OneByOne();
    for (const wanted of missing) await each.try(() => this.#issue({ ...wanted, beyond: 0 }, by));
    each.end();
    return missing.length;
  }

  /** Issues, on the same key, what follows a certificate that ends before `threshold` (ms since 1970), or that a former authority signed. */
  async renewDue(threshold: number, by: AuditActor, isStopped: () => boolean): Promise<void> {
    // Taken for one that serves still, a former authority would have everybody renewed at each round.
    await this.authorities.refresh();
    const authority = authorityId(this.authorities.serving('people'));
    const due = await this.storage.all<{ address: string; key: string }>(
      `SELECT b.address AS "address", k.id AS "key" FROM bindings b JOIN keys k ON k.employee = b.employee AND k.state = 'active'
       WHERE b.to_time IS NULL AND EXISTS (SELECT 1 FROM employees e WHERE e.id = b.employee AND e.state = 'active')
       AND EXISTS (SELECT 1 FROM certificates c WHERE c.subject_key = k.id AND c.address = b.address AND c.profile = 'person')
       AND NOT EXISTS (${LASTING})
       ORDER BY b.address`,
      [threshold, authority],
    );
    const each = new OneByOne();
    for (const wanted of due) {
      if (isStopped()) break;
      await each.try(() => this.#issue({ ...wanted, beyond: threshold, authority }, by));
    }
    each.end();
  }

  /**
   * Claim committed → token signs → certificate and entry committed; a serial that was signed and not stored is revoked. The claim, an intent by the name of
   * key and address, is looked for where it is written: of nodes that see the same certificate end, one gives it a successor.
   */
  async #issue(wanted: Wanted, by: AuditActor): Promise<void> {
    const { address, key } = wanted;
    const binding = await this.employees.bindingOf(address);
    const stored = await this.#keys.find(this.storage, key);
    if (!binding || !stored) return; // ended meanwhile
    const [intent, serial] = [claimOf(wanted), newSerial()];
    const { employee } = binding.sealed.record;
    const isClaimed = await this.storage.write(async (unit) => {
      if ((await claimed(unit, intent)) || (await claimed(unit, successionOf(key))) || !(await isWanted(unit, wanted))) return false;
      await intend(unit, intent, 'certify', { serial }, this.clock);
      return true;
    });
    if (!isClaimed) return;
    try {
      const { urls, personDays: days } = this.settings;
      const { sealed, publicKey } = stored;
      const der = await this.token.issuePerson({
        key: sealed,
        binding: binding.sealed,
        shown: binding.shown,
        publicKey,
        serial,
        urls,
        days,
      });
      await this.second.certified({ key, employee, address, serial, certificate: der });
      await this.authorities.requireRevocable(der);
      await this.storage.write(async (unit) => {
        // The key was compromised, or the address went to somebody else, while the token signed: nobody is to find this one.
        if ((await claimed(unit, intent)) !== serial || !(await isWanted(unit, wanted)))
          throw new Fault('conflict', 'key-changed', 'key or address changed meanwhile');
        const times = certificateTimes(der);
        await insertCertificate(unit, { serial, authority: 'people', profile: 'person', der, ...times, key, employee, address });
        await this.audit.append(unit, {
          action: 'certificate.issue',
          outcome: 'done',
          actor: by,
          employee,
          subject: serial,
          personal: { address },
        });
        await fulfil(unit, intent);
      });
    } catch (error) {
      await this.undo(intent, serial);
      // Key or address changed while the token signed: the next round sees what is missing then.
      if (!isFault(error) || error.kind === 'unavailable') throw error;
    }
  }

  /** Also run at start for intents that a crash left open. Somebody else's claim of the same name stays. */
  async undo(intent: string, serial: string): Promise<void> {
    await this.storage.write(async (unit) => {
      await this.issuance.disown(unit, serial, 'person');
      if ((await claimed(unit, intent)) === serial) await fulfil(unit, intent);
    });
  }
}

/** The claim on a key that another is about to follow. */
export const successionOf = (key: string): string => `certify:${key}`;

/** A certificate for this address on this key, unless one lasts beyond a time (ms since 1970), and is of this generation of the authority where that counts. */
interface Wanted {
  address: string;
  key: string;
  beyond: number;
  authority?: string;
}

/** Of key `k` for the address of binding `b`: beyond a time, by one generation of the authority, or by any for ''. */
const LASTING = `SELECT 1 FROM certificates c WHERE c.subject_key = k.id AND c.address = b.address AND c.profile = 'person' AND c.revoked_at IS NULL
  AND c.not_after > ? AND ? IN ('', c.authority)`;

const claimOf = ({ key, address }: Wanted): string => `certify:${key}:${address}`;

async function isWanted(reader: Reader, { address, key, beyond, authority = '' }: Wanted): Promise<boolean> {
  const found = await reader.one(
    `SELECT k.id FROM keys k JOIN bindings b ON b.employee = k.employee AND b.to_time IS NULL AND b.address = ? WHERE k.id = ? AND k.state = 'active'
     AND NOT EXISTS (${LASTING})`,
    [address, key, beyond, authority],
  );
  return found !== undefined;
}

/** The serial that a claim was made for. */
async function claimed(reader: Reader, intent: string): Promise<string | undefined> {
  const row = await reader.one<{ body: string }>("SELECT body FROM intents WHERE id = ? AND kind = 'certify'", [intent]);
  return row && (JSON.parse(row.body) as { serial: string }).serial; // what `intend` wrote with this kind
}
