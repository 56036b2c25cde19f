import { X509Certificate } from 'node:crypto';
import { insertCertificate, type RevocationLists, serialOf } from '../certificates/index.js';
import type { DeviceRegistry } from '../devices/index.js';
import { type AuditActor, type AuditLog, type Clock, Fault, OneAtATime, type Storage } from '../foundation/index.js';
import { type Authorities, type Authority, authorityId, issuerAmong, type SucceedingAuthority, type Token } from '../tokens/index.js';
import { recall, remember } from './backups.js';

/** In `settings`, from the decision until the entry that it was done. */
const BEGUN = 'custody.authority-retirement';
/** Certificates that are revoked in one unit of work. */
const PAGE = 200;

interface Begun {
  id: string;
  revoke: boolean;
  by: AuditActor;
}

export interface AuthorityStanding extends Pick<Authority, 'name' | 'n' | 'state'> {
  /** What stands in its addresses, and what the commands call it by. */
  id: string;
  /** ISO 8601. */
  notAfter: string;
  /** Certificates that it signed and that count, and when the last of them ends. */
  inUse: number;
  until: string | null;
}

/**
 * The end of a generation of an authority after another took over (docs/adr/0096). While certificates that it signed count it stays, unless somebody says that they are to be
 * revoked. Its last list is made before its key goes. What was cut off is gone on with.
 */
export class AuthorityRetirement {
  readonly #turns = new OneAtATime();

  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      token: Pick<Token, 'retireAuthority' | 'certificates'>;
      clock: Clock;
      authorities: Authorities;
      revocations: RevocationLists;
      registry: DeviceRegistry;
    },
  ) {}

  async list(): Promise<AuthorityStanding[]> {
    const { authorities } = this.parts;
    await authorities.refresh();
    return Promise.all(
      authorities.all.map(async (authority) => {
        const { inUse, until } = await this.#use(authorityId(authority));
        const { name, n, state, certificate } = authority;
        return {
          ...{ id: authorityId(authority), name, n, state, inUse },
          notAfter: new X509Certificate(certificate).validToDate.toISOString(),
          until: until === null ? null : new Date(until).toISOString(),
        };
      }),
    );
  }

  /**
   * @param revoke its certificates that still count are revoked, and it is itself on the root's list: what a suspected one needs
   * Rejects with `authority-unknown`, `authority-retired`, `authority-in-use`, `root-fixed`.
   */
  retire(id: string, revoke: boolean, by: AuditActor): Promise<{ revoked: number }> {
    return this.#alone(() => this.#retire(id, revoke, by));
  }

  /** Finishes what was begun, if something was. */
  async resume(): Promise<void> {
    await this.#alone(() => this.#resume());
  }

  #alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#turns.run(BEGUN, act);
  }

  async #retire(id: string, revoke: boolean, by: AuditActor): Promise<{ revoked: number }> {
    const { storage, authorities } = this.parts;
    const before = await this.#resume();
    // Told again after a crash, it has been done by now.
    if (before?.id === id) return { revoked: before.revoked };
    await authorities.refresh();
    await this.#requireFormer(id);
    const { inUse, until } = await this.#use(id);
    if (inUse > 0 && !revoke)
      throw new Fault(
        'conflict',
        'authority-in-use',
        `${inUse} certificates that ${id} signed still count, the last until ${new Date(until ?? 0).toISOString()}: wait, or have them revoked with it`,
      );
    const begun: Begun = { id, revoke, by };
    await storage.write(async (unit) => {
      if (await recall<Begun>(unit, BEGUN))
        throw new Fault('conflict', 'rotation-under-way', 'another node of this appliance is just retiring an authority: ask again');
      await remember(unit, BEGUN, begun);
    });
    return { revoked: await this.#finish(begun) };
  }

  async #resume(): Promise<{ id: string; revoked: number } | undefined> {
    const begun = await recall<Begun>(this.parts.storage, BEGUN);
    return begun && { id: begun.id, revoked: await this.#finish(begun) };
  }

  async #requireFormer(id: string): Promise<Authority> {
    const { authorities, token } = this.parts;
    const authority = await authorities.find(id);
    if (!authority) throw new Fault('not-found', 'authority-unknown', `there is no authority ${id}: ekms ca list`);
    if (authority.name === 'root') throw rootFixed();
    if (authority.state === 'retired') throw new Fault('conflict', 'authority-retired', `${id} was retired before`);
    if (authority.state === 'serving')
      throw new Fault('conflict', 'authority-in-use', `${id} serves: ekms ca rotate ${authority.name} first`);
    if (issuerAmong([authority], (await token.certificates()).delivery))
      throw new Fault('conflict', 'authority-in-use', `${id} certifies the delivery key: ekms token rotate delivery first`);
    return authority;
  }

  /** Each step may have been done before a crash: told again, it does what is left of it. */
  async #finish({ id, revoke, by }: Begun): Promise<number> {
    const { storage, audit, token, authorities, revocations } = this.parts;
    await authorities.refresh();
    const authority = await authorities.find(id);
    if (!authority) throw new Fault('not-found', 'authority-unknown', `there is no authority ${id}`);
    if (authority.state === 'serving') {
      // Begun before the token was put back to a time when this one still served: nothing of it is revoked by that.
      await storage.write((unit) => unit.run('DELETE FROM settings WHERE name = ?', [BEGUN]));
      throw new Fault(
        'conflict',
        'authority-in-use',
        `${id} serves again, so its end was given up: ekms ca rotate ${authority.name} first`,
      );
    }
    const revoked = revoke ? await this.#revokeAll(authority, by) : 0;
    if (authority.state !== 'retired') await revocations.publishLast(authority);
    // The cast: the root was refused before anything began.
    await token.retireAuthority(authority.name as SucceedingAuthority, authority.n);
    await authorities.refresh();
    await storage.write(async (unit) => {
      const begun = await recall<Begun>(unit, BEGUN);
      if (begun?.id !== id) return; // another node finished it, and may have begun the next
      await unit.run('DELETE FROM settings WHERE name = ?', [BEGUN]);
      const facts = { name: authority.name, n: authority.n, revoked: revoke };
      await audit.append(unit, { action: 'authority.retire', outcome: 'done', actor: by, facts });
    });
    return revoked;
  }

  /** Its certificates, with the devices that are known by them, and its own. */
  async #revokeAll(authority: Authority, by: AuditActor): Promise<number> {
    const { storage, revocations, registry } = this.parts;
    const id = authorityId(authority);
    let revoked = 0;
    if (authority.name === 'devices') {
      const devices = await storage.all<{ device: string }>(
        "SELECT DISTINCT device FROM certificates WHERE authority = ? AND profile = 'device' AND revoked_at IS NULL AND device IS NOT NULL",
        [id],
      );
      revoked += await registry.endThese(
        devices.map(({ device }) => device),
        by,
      );
    }
    for (;;) {
      const some = await storage.all<{ serial: string }>(`SELECT serial ${COUNTING} ORDER BY serial LIMIT ${PAGE}`, this.#counting(id));
      if (some.length === 0) break;
      await storage.write(async (unit) => {
        for (const { serial } of some) await revocations.revoke(unit, serial, 'superseded', by);
      });
      revoked += some.length;
    }
    await this.revokeItself(authority, by);
    return revoked;
  }

  /** Its own certificate goes onto the root's list. False where it is there. */
  async revokeItself({ certificate: der }: Authority, by: AuditActor): Promise<boolean> {
    const { storage, revocations } = this.parts;
    const certificate = new X509Certificate(der);
    const serial = serialOf(der);
    const revoked = await storage.write(async (unit) => {
      const known = await unit.one<{ ended: number | null }>('SELECT revoked_at AS "ended" FROM certificates WHERE serial = ?', [serial]);
      if (known && known.ended !== null) return false;
      if (!known)
        await insertCertificate(unit, {
          ...{ serial, authority: 'root', profile: 'authority', der },
          ...{ notBefore: certificate.validFromDate.getTime(), notAfter: certificate.validToDate.getTime() },
        });
      await revocations.revoke(unit, serial, 'cACompromise', by);
      return true;
    });
    await revocations.publish('root');
    return revoked;
  }

  async #use(id: string): Promise<{ inUse: number; until: number | null }> {
    const row = await this.parts.storage.one<{ n: number; until: number | null }>(
      `SELECT COUNT(*) AS "n", MAX(not_after) AS "until" ${COUNTING}`,
      this.#counting(id),
    );
    return { inUse: Number(row?.n ?? 0), until: row?.until == null ? null : Number(row.until) };
  }

  #counting(id: string): (string | number)[] {
    return [id, this.parts.clock.now().getTime()];
  }
}

const COUNTING =
  "FROM certificates WHERE authority = ? AND profile NOT IN ('imported', 'authority') AND revoked_at IS NULL AND not_after > ?";

/** Every device, every client and every app credential trusts this very root, so it lives as long as the appliance (docs/operations/rotation.md). */
export const rootFixed = (): Fault =>
  new Fault(
    'conflict',
    'root-fixed',
    'the root cannot be replaced in a living appliance: every device and app credential trusts this very one. docs/operations/rotation.md says what to do instead',
  );
