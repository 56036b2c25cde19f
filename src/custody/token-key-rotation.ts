import { X509Certificate } from 'node:crypto';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  OneAtATime,
  type Storage,
  sha256,
} from '../foundation/index.js';
import type { SecondPlace } from '../keys/index.js';
import {
  type Authorities,
  type AuthorityName,
  type AuthorityUrls,
  type RetiredName,
  SUCCEEDING_AUTHORITIES,
  type SucceedingAuthority,
  type SuccessorName,
  type Token,
  type TokenKeyInfo,
} from '../tokens/index.js';
import { recall, remember } from './backups.js';

/** In `settings`, from the decision until the entry that it was done. */
const BEGUN = 'custody.key-rotation';
/** The same for what takes over at once: it does not wait for an authority that waits for the second place. */
const BEGUN_AT_ONCE = 'custody.key-rotation.at-once';
/** What waits for nobody first. */
const ROWS = [BEGUN_AT_ONCE, BEGUN] as const;

type RotatedName = SuccessorName | SucceedingAuthority;

interface Begun {
  name: RotatedName;
  n: number;
  by: AuditActor;
}

const authorityOf = (name: RotatedName | RetiredName): SucceedingAuthority | undefined =>
  SUCCEEDING_AUTHORITIES.find((each) => each === name);
const rowOf = (name: RotatedName | RetiredName) => (authorityOf(name) ? BEGUN : BEGUN_AT_ONCE);

/**
 * New keys for what the token signs with (docs/adr/0070). The number of the next one is decided before the token makes it, so an act that was cut off is finished,
 * not done twice.
 */
export class TokenKeyRotation {
  readonly #turns = new OneAtATime();

  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      token: Pick<Token, 'tokenKeys' | 'prepareAuthority' | 'succeedKey' | 'retireKey'>;
      authorities: Pick<Authorities, 'find'>;
      second: Pick<SecondPlace, 'requireKnown' | 'succeeding'>;
      clock: Clock;
      /** Of the authorities, as certificates carry them. */
      urls: Record<AuthorityName, AuthorityUrls>;
      /** What else must be there for a new authority before it is said to be: its revocation list. */
      ready: (name: SucceedingAuthority) => Promise<void>;
    },
  ) {}

  list(): Promise<TokenKeyInfo[]> {
    return this.parts.token.tokenKeys();
  }

  /**
   * A new key of this name takes over at once; what the former one signed stays valid. Rejects with `rotation-under-way` while another node does one, and for an authority with
   * `second-place-away`: then the former one serves on, and the next one is made when the place is back. Another authority waits with it; no other key does.
   */
  rotate(name: RotatedName, by: AuditActor): Promise<{ name: RotatedName; n: number }> {
    return this.#alone(() => this.#rotate(name, by));
  }

  /** Finishes what was begun, if something was. */
  async resume(): Promise<void> {
    await this.#alone(() => this.#resume());
  }

  /** Destroys the keys that were taken over from. */
  retire(name: RetiredName, by: AuditActor): Promise<{ destroyed: number[] }> {
    return this.#alone(() => this.#retire(name, by));
  }

  /** Of generations that a restore has from the second place alone: their rotation is in no entry that came back. @param ids as `authorityId` calls them */
  async noteTaken(ids: readonly string[]): Promise<void> {
    const { storage, audit, authorities } = this.parts;
    for (const id of ids) {
      const authority = await authorities.find(id);
      if (!authority) throw new Error(`the token does not tell of ${id}`);
      const { name, n, certificate } = authority;
      const publicKey = base64url(sha256(new X509Certificate(certificate).publicKey.export({ format: 'der', type: 'spki' })));
      await storage.write(async (unit) => {
        await audit.append(unit, {
          ...{ action: 'token-key.rotate', outcome: 'done', reason: 'escrow', actor: { kind: 'system' } },
          facts: { name, n, publicKey },
        });
      });
    }
  }

  /** One after the other: what is begun has a row, not one for each key. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#turns.run(BEGUN, act);
  }

  async #rotate(name: RotatedName, by: AuditActor): Promise<{ name: RotatedName; n: number }> {
    const { storage } = this.parts;
    const finished = (await this.#resume(name)).find((begun) => begun.name === name);
    // Told again after a crash, it has been done by now: nobody asked for two.
    if (finished) return { name, n: finished.n };
    const begun: Begun = { name, n: (await this.#serving(name)) + 1, by };
    const row = rowOf(name);
    await storage.write(async (unit) => {
      // Written over, what another node has begun would be done without its entry.
      if (await recall<Begun>(unit, row))
        throw new Fault('conflict', 'rotation-under-way', 'another node of this appliance is just rotating a key: ask again');
      await remember(unit, row, begun);
    });
    await this.#finish(begun);
    return { name, n: begun.n };
  }

  async #serving(name: RotatedName): Promise<number> {
    return (await this.list()).find((key) => key.name === name)?.n ?? 1;
  }

  /**
   * Resolves with what was finished.
   * @param before the name that is to be worked on next: only what stands in its way must be over
   */
  async #resume(before?: RotatedName | RetiredName): Promise<Begun[]> {
    const finished: Begun[] = [];
    for (const row of ROWS) {
      const begun = await recall<Begun>(this.parts.storage, row);
      if (!begun) continue;
      try {
        if (await this.#finish(begun)) finished.push(begun);
      } catch (error) {
        if (before === undefined || rowOf(before) === row || !isFault(error, 'second-place-away')) throw error;
      }
    }
    return finished;
  }

  async #retire(name: RetiredName, by: AuditActor): Promise<{ destroyed: number[] }> {
    const { storage, audit, token } = this.parts;
    await this.#resume(name);
    const { destroyed } = await token.retireKey(name);
    await storage.write(async (unit) => {
      for (const n of destroyed) await audit.append(unit, { action: 'token-key.destroy', outcome: 'done', actor: by, facts: { name, n } });
    });
    return { destroyed };
  }

  /** Resolves with whether this one serves now, for the first time or told again. */
  async #finish(begun: Begun): Promise<boolean> {
    const { token, second, urls, ready } = this.parts;
    const { name, n } = begun;
    // Not done by this act: a restore took it, with the one that followed it, from the second place, over a database that had just begun with it.
    if ((await this.#serving(name)) > n) {
      await this.#end(begun, { outcome: 'failed', reason: 'key-number' });
      return false;
    }
    const authority = authorityOf(name);
    if (authority) {
      await second.requireKnown('authority');
      await token.prepareAuthority(authority, n, urls.root);
      // Before it serves: a restore by the second place would not know who signed what was certified since.
      await second.succeeding(authority, n);
    }
    const { publicKey } = await token.succeedKey(name, n, authority ? urls.root : urls.infrastructure);
    if (authority) await ready(authority);
    await this.#end(begun, { outcome: 'done' }, { publicKey: base64url(sha256(publicKey)) });
    return true;
  }

  async #end(
    { name, n, by }: Begun,
    ended: { outcome: 'done' } | { outcome: 'failed'; reason: string },
    facts: { publicKey?: string } = {},
  ): Promise<void> {
    const { storage, audit } = this.parts;
    await storage.write(async (unit) => {
      for (const row of ROWS) {
        const begun = await recall<Begun>(unit, row);
        if (begun?.name !== name || begun.n !== n) continue; // another node finished it
        await unit.run('DELETE FROM settings WHERE name = ?', [row]);
        await audit.append(unit, { action: 'token-key.rotate', actor: by, ...ended, facts: { name, n, ...facts } });
      }
    });
  }
}
