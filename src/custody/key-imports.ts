import { X509Certificate } from 'node:crypto';
import type { Binding, Employees } from '../access/index.js';
import { parseEnvelopedKey } from '../codec/cms/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  isId,
  newId,
  parseAddress,
  type Storage,
  sha256,
} from '../foundation/index.js';
import { OnePlace, type SecondPlace } from '../keys/index.js';
import type { AcceptedLine, AdoptedKey, AdoptTo, ForeignKeyProblem, HeldMode, KeyMode, Token } from '../tokens/index.js';
import { type ImportClaim, ImportClaims } from './import-claims.js';
import type { KeyLives } from './key-lives.js';
import { storeTakenKey } from './store-taken-key.js';
import type { TransferKeys } from './transfer-keys.js';
import type { TransferredKey, TransferredLife } from './transfer-shapes.js';

export interface ImportAsk {
  /** A PKCS#12 file. */
  file: Buffer;
  phrase: string;
  /** An address or employee id; without it, whom the certificate's addresses belong to. */
  owner?: string | undefined;
  /** Says what would be done. */
  dryRun: boolean;
}

/** What became of one key in a file. `code` is stable; `words` are for people. */
export interface ImportedKey {
  /** SHA-256 of the SPKI, base64url. */
  publicKey: string;
  bits: number;
  outcome: 'imported' | 'importable' | 'there' | 'refused';
  code?: ImportRefusal;
  words: string;
  employee?: string;
  key?: string;
  /** Fewer than 2,048 bits: others may open that mail too. */
  weak: boolean;
  /** Its certificates have all ended; old mail still opens with it. */
  expired: boolean;
}

type ImportRefusal = ForeignKeyProblem | 'owner-unknown' | 'owner-ambiguous' | 'owner-other' | 'key-destroyed';

const WORDS: Record<ImportRefusal, string> = {
  'certificate-missing': 'the file holds no certificate, so nobody can tell what the key is for',
  'key-foreign': 'no certificate in the file is of this key',
  'signing-only': 'its certificate is for signing only: such keys belong to their owner alone and are not held here',
  'key-unsupported': 'only RSA keys of 1,024 to 8,192 bits are taken',
  'key-broken': 'the private key cannot be read, or is not one',
  'owner-unknown': 'nobody here has an address of its certificate: name the owner in the third column',
  'owner-ambiguous': 'its addresses belong to several people here: name the owner in the third column',
  'key-destroyed': 'it was destroyed where it comes from: it is nobody’s any more',
  'owner-other': 'this key is here already, for somebody else',
};
/** Bits below which RSA does not hold any more. */
const STRONG_BITS = 2_048;

interface OneKey {
  owner: string | undefined;
  dryRun: boolean;
  said: Pick<ImportedKey, 'publicKey' | 'bits' | 'weak' | 'expired'>;
  /** Its certificates. */
  own: readonly Read[];
  addresses: readonly string[];
  /** `owner`: the binding that makes them its owner, where an address does. */
  bring: (to: AdoptTo, owner?: Binding) => Promise<AdoptedKey>;
  refused: (code: ImportRefusal) => ImportedKey;
  /** Without it, as the owner's keys are. */
  mode?: HeldMode;
  life?: TransferredLife;
}

interface Parts {
  storage: Storage;
  audit: AuditLog;
  token: Token;
  employees: Employees;
  second: SecondPlace;
  transferKeys: TransferKeys;
  lives: Pick<KeyLives, 'received' | 'holdReceived' | 'settleHold'>;
  clock: Clock;
  mode: KeyMode;
}

/** Without a second place the database alone says who was first. */
const UNCLAIMED: Pick<ImportClaims, 'run'> = { run: (_, act) => act({ since: 0, end: async () => undefined }) };

/**
 * Takes people's former keys out of PKCS#12 files, as AD CS, KRAs and mail programs write them, for reading old mail. The token process opens the
 * file, so that keys are in no other one. What is here already is left as it is, so whoever was cut off begins again.
 */
export class KeyImports {
  readonly #claims: Pick<ImportClaims, 'run'>;

  constructor(private readonly parts: Parts) {
    const { second, storage, clock } = parts;
    this.#claims = second instanceof OnePlace ? UNCLAIMED : new ImportClaims(storage, clock);
  }

  /** Rejects with `pkcs12-malformed`, `pkcs12-passphrase`, `pkcs12-excessive`, `algorithm-unsupported`, `archived-key-sealed` about the file as a whole. */
  async take({ file, phrase, owner, dryRun }: ImportAsk, by: AuditActor): Promise<ImportedKey[]> {
    const { token } = this.parts;
    const { keys, certificates } = await token.look(file, phrase, !dryRun);
    const read = certificates.flatMap((der) => certificateOf(der));
    const taken: ImportedKey[] = [];
    for (const { publicKey, bits, problem, found } of keys) {
      const own = read.filter(({ spki }) => spki.equals(publicKey));
      const now = this.parts.clock.now();
      const said = {
        publicKey: base64url(sha256(publicKey)),
        bits,
        weak: bits < STRONG_BITS,
        expired: own.every(({ notAfter }) => notAfter <= now),
      };
      const refused = (code: ImportRefusal): ImportedKey => ({ ...said, outcome: 'refused', code, words: WORDS[code] });
      const bring = async (to: AdoptTo): Promise<AdoptedKey> => {
        if (!found) throw new Error('the token found no problem with this key, and did not take it');
        return { key: await token.adopt(found.sealed, to), publicKey, wrapped: found.wrapped };
      };
      const addresses = own.flatMap(({ addresses: named }) => named);
      taken.push(problem ? refused(problem) : await this.#one({ owner, dryRun, said, own, addresses, bring, refused }, by));
    }
    return taken;
  }

  /**
   * A key that another appliance sealed to a transfer key of ours (docs/formats/transfer.md). Without `accepted` it says what would be done. Rejects as
   * `TransferKeys.find` and `Token.takeIn`.
   */
  async receive(
    { key, accepted, ...of }: { key: TransferredKey } & ({ accepted: AcceptedLine } | { accepted?: undefined; owner?: string | undefined }),
    by: AuditActor,
  ): Promise<ImportedKey> {
    const owner = accepted ? accepted.owner : 'owner' in of ? of.owner : undefined;
    const content = Buffer.from(key.content, 'base64');
    const { transferKey, blob } = await this.parts.transferKeys.find(parseEnvelopedKey(content).keyIdentifier);
    const publicKey = Buffer.from(key.publicKey, 'base64');
    const own = key.certificates.flatMap((der) => certificateOf(Buffer.from(der, 'base64'))).filter(({ spki }) => spki.equals(publicKey));
    const now = this.parts.clock.now();
    const said = {
      publicKey: base64url(sha256(publicKey)),
      bits: key.bits,
      weak: key.bits < STRONG_BITS,
      expired: own.length > 0 && own.every(({ notAfter }) => notAfter <= now),
    };
    const refused = (code: ImportRefusal): ImportedKey => ({ ...said, outcome: 'refused', code, words: WORDS[code] });
    const bring = async (to: AdoptTo, binding?: Binding): Promise<AdoptedKey> => {
      if (!accepted) throw new Error('what nobody accepted is only looked at');
      const shown = binding ? { ...accepted, binding: binding.sealed } : accepted;
      return this.parts.token.takeIn({ transferKey, blob, accepted: shown, to });
    };
    if (key.state === 'destroyed') return refused('key-destroyed');
    const { life, addresses } = key;
    const mode = key.quorum ? ({ mode: 'quorum' } as const) : {};
    const dryRun = accepted === undefined;
    const taken = await this.#one({ owner, dryRun, said, own, addresses, bring, refused, ...mode, ...(life ? { life } : {}) }, by);
    return taken.outcome === 'refused' ? taken : { ...taken, words: `${taken.words}${remarksOfLife(key)}` };
  }

  async #one({ owner, dryRun, said, own, addresses, bring, refused, mode: wanted, life }: OneKey, by: AuditActor): Promise<ImportedKey> {
    const { storage, audit, second, lives, clock } = this.parts;
    const owners = await this.#owners(owner, addresses);
    const [[employee, binding] = []] = owners;
    if (employee === undefined) return refused('owner-unknown');
    if (owners.size > 1) return refused('owner-ambiguous');
    const asThere = async (): Promise<ImportedKey | undefined> => {
      const there = await this.#there(said.publicKey);
      if (!there) return undefined;
      if (there.employee !== employee) return refused('owner-other');
      if (life && life.holds.length > 0 && !dryRun) await lives.holdReceived(employee, life, by);
      return { ...said, ...there, outcome: 'there', words: 'it is here already' };
    };
    const before = await asThere();
    if (before) return before;
    if (dryRun) return { ...said, outcome: 'importable', words: `it can be imported${remarks(said)}`, employee };
    const to = await this.#wishOf(employee, wanted);
    const { key, publicKey, wrapped } = await bring({ key: newId(), employee, ...to }, binding);
    const stored = { sealed: key, wrapped, publicKey };
    const certificates = own.map(({ der }) => der);
    const [oldest] = await this.parts.employees.bindingsOf(employee);
    const take = async ({ since, end }: ImportClaim): Promise<ImportedKey> => {
      // The same key twice at a time, for one person or two: the other one was faster.
      const meanwhile = await asThere();
      if (meanwhile) return meanwhile;
      await second.taken({ key: stored, binding: oldest ?? null, certificates, since, ...(life ? { life } : {}) });
      await storage.write(async (unit) => {
        await end(unit);
        await storeTakenKey(unit, audit, { key: stored, certificates, now: clock.now(), by });
        if (life) await lives.received(unit, { key: key.record.id, employee, life }, by);
      });
      if (life) await lives.settleHold(`hold:${employee}`);
      return { ...said, outcome: 'imported', words: `imported${remarks(said)}`, employee, key: key.record.id };
    };
    try {
      return await this.#claims.run(said.publicKey, take);
    } catch (error) {
      const meanwhile = isFault(error, 'duplicate') ? await asThere() : undefined;
      if (!meanwhile) throw error;
      return meanwhile;
    }
  }

  /** Who it may be, each with the binding that says so; of an employee id the oldest. */
  async #owners(owner: string | undefined, addresses: readonly string[]): Promise<Map<string, Binding | undefined>> {
    const { employees, storage } = this.parts;
    const found = new Map<string, Binding | undefined>();
    if (owner !== undefined && isId(owner)) {
      if (await storage.one('SELECT id FROM employees WHERE id = ?', [owner])) found.set(owner, (await employees.bindingsOf(owner))[0]);
      return found;
    }
    for (const address of owner === undefined ? addresses : [owner]) {
      const key = addressKey(address);
      const binding = key === undefined ? undefined : await employees.bindingOf(key);
      const employee = binding?.sealed.record.employee;
      if (employee !== undefined && !found.has(employee)) found.set(employee, binding);
    }
    return found;
  }

  async #there(publicKey: string): Promise<{ key: string; employee: string } | undefined> {
    return this.parts.storage.one<{ key: string; employee: string }>('SELECT id AS "key", employee FROM keys WHERE public_key_digest = ?', [
      Buffer.from(publicKey, 'base64url'),
    ]);
  }

  /** A mailbox's key is its members' from its birth here, or never. One that only a quorum uses goes to nobody's device. */
  async #wishOf(employee: string, wanted: HeldMode | undefined): Promise<{ mode: HeldMode; shared?: true }> {
    const sql = 'SELECT mode, kind FROM employees WHERE id = ?';
    const row = await this.parts.storage.one<{ mode: HeldMode | null; kind: string | null }>(sql, [employee]);
    const mode = wanted ?? row?.mode ?? this.parts.mode;
    return { mode, ...(row?.kind === 'mailbox' && mode !== 'quorum' ? { shared: true } : {}) };
  }
}

interface Read {
  der: Buffer;
  spki: Buffer;
  notAfter: Date;
  addresses: string[];
}

function certificateOf(der: Buffer): Read[] {
  try {
    const { publicKey, validToDate, subject, subjectAltName = '' } = new X509Certificate(der);
    const named = [...subjectAltName.matchAll(/(?:^|, )email:([^,]+)/g), ...subject.matchAll(/(?:^|\n)emailAddress=(.+)/g)];
    return [
      {
        der,
        spki: publicKey.export({ format: 'der', type: 'spki' }),
        notAfter: validToDate,
        addresses: [...new Set(named.map(([, address = '']) => address.trim()))],
      },
    ];
  } catch {
    return [];
  }
}

function addressKey(text: string): string | undefined {
  try {
    return parseAddress(text).key;
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
}

function remarksOfLife({ state, life }: TransferredKey): string {
  const held = life && life.holds.length > 0 ? '; its owner’s keys are on legal hold there, and so here' : '';
  const unsaid = life ? '' : '; the file is an older version’s and says nothing of its dates and legal holds: look for them there';
  const kept = state === 'suspended' || state === 'compromised' ? `; it is ${state} there, and so here` : '';
  return `${kept}${held}${unsaid}`;
}

const remarks = ({ weak, expired }: { weak: boolean; expired: boolean }): string =>
  `${expired ? '; its certificate has expired' : ''}${weak ? '; it is weak, others may open that mail too' : ''}`;
