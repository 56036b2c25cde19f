import { X509Certificate } from 'node:crypto';
import { type AuditActor, type AuditLog, base64url, type Clock, Fault, OneAtATime, type Storage, sha256 } from '../foundation/index.js';
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

type RotatedName = SuccessorName | SucceedingAuthority;

interface Begun {
  name: RotatedName;
  n: number;
  by: AuditActor;
}

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
      second: Pick<SecondPlace, 'succeeding'>;
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
   * `second-place-away`: then the former one serves on, and the next one is ready when the place is back.
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

  /** One after the other: there is one row for what is begun. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#turns.run(BEGUN, act);
  }

  async #rotate(name: RotatedName, by: AuditActor): Promise<{ name: RotatedName; n: number }> {
    const { storage } = this.parts;
    const finished = await this.#resume();
    // Told again after a crash, it has been done by now: nobody asked for two.
    if (finished?.name === name) return { name, n: finished.n };
    const now = (await this.list()).find((key) => key.name === name)?.n ?? 1;
    const begun: Begun = { name, n: now + 1, by };
    await storage.write(async (unit) => {
      // Written over, what another node has begun would be done without its entry.
      if (await recall<Begun>(unit, BEGUN))
        throw new Fault('conflict', 'rotation-under-way', 'another node of this appliance is just rotating a key: ask again');
      await remember(unit, BEGUN, begun);
    });
    await this.#finish(begun);
    return { name, n: begun.n };
  }

  /** Resolves with what was finished. */
  async #resume(): Promise<Begun | undefined> {
    const begun = await recall<Begun>(this.parts.storage, BEGUN);
    if (begun) await this.#finish(begun);
    return begun;
  }

  async #retire(name: RetiredName, by: AuditActor): Promise<{ destroyed: number[] }> {
    const { storage, audit, token } = this.parts;
    await this.#resume();
    const { destroyed } = await token.retireKey(name);
    await storage.write(async (unit) => {
      for (const n of destroyed) await audit.append(unit, { action: 'token-key.destroy', outcome: 'done', actor: by, facts: { name, n } });
    });
    return { destroyed };
  }

  async #finish({ name, n, by }: Begun): Promise<void> {
    const { storage, audit, token, second, urls, ready } = this.parts;
    const authority = SUCCEEDING_AUTHORITIES.find((each) => each === name);
    if (authority) {
      await token.prepareAuthority(authority, n, urls.root);
      // Before it serves: a restore by the second place would not know who signed what was certified since.
      await second.succeeding(authority, n);
    }
    const { publicKey } = await token.succeedKey(name, n, authority ? urls.root : urls.infrastructure);
    if (authority) await ready(authority);
    await storage.write(async (unit) => {
      const begun = await recall<Begun>(unit, BEGUN);
      if (begun?.name !== name || begun.n !== n) return; // another node finished it
      await unit.run('DELETE FROM settings WHERE name = ?', [BEGUN]);
      const facts = { name, n, publicKey: base64url(sha256(publicKey)) };
      await audit.append(unit, { action: 'token-key.rotate', outcome: 'done', actor: by, facts });
    });
  }
}
