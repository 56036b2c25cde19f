import { noteKeyDigest, parseCheckpoint, parseNote } from '../codec/merkle/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  isFault,
  OneAtATime,
  type Storage,
  sha256 as sha256Of,
  type Unit,
} from '../foundation/index.js';
import { type AuditHead, auditNoteKey, type Token } from '../tokens/index.js';
import { followAuditKey, type KeyFiles } from './audit-key.js';
import type { Checkpoints } from './checkpoints.js';
import { type LogTree, sha256 } from './log-tree.js';
import type { TileReader } from './tile-reader.js';

/** In `settings`, from the decision until the entry that it was done. */
const BEGUN = 'audit.key-rotation';
/** Tries against heads that are signed meanwhile. */
const ATTEMPTS = 8;

interface Begun {
  n: number;
  by: AuditActor;
  /** The entry that announces it, once it is written. */
  announced?: { index: number; key: string };
}

export interface AuditKeyRotationParts {
  storage: Storage;
  audit: AuditLog;
  clock: Clock;
  tree: LogTree;
  tiles: TileReader;
  checkpoints: Pick<Checkpoints, 'publish'>;
  token: Pick<Token, 'tokenKeys' | 'prepareAuditKey' | 'succeedAuditKey' | 'signHead' | 'auditHead' | 'signingKey'>;
  /** Files of the keys that others verify by. */
  files: KeyFiles;
  /** Our name in cosignatures. */
  witnessName: string;
}

/**
 * Another key for the log: made, announced by an entry, that entry signed by the former key, and only then put into service by both signatures over one
 * head (docs/adr/0071). Cut off anywhere it is finished at the next start.
 */
export class AuditKeyRotation {
  readonly #turns = new OneAtATime();

  constructor(private readonly parts: AuditKeyRotationParts) {}

  /** Rejects with `rotation-under-way` while another node does one. */
  rotate(by: AuditActor): Promise<{ name: 'audit'; n: number }> {
    return this.#alone(async () => {
      await this.#resume();
      const begun: Begun = { n: (await this.#inService()) + 1, by };
      await this.parts.storage.write(async (unit) => {
        if (await kept(unit))
          throw new Fault('conflict', 'rotation-under-way', 'another node of this appliance is just rotating a key: ask again');
        await keep(unit, begun);
      });
      await this.#finish(begun);
      return { name: 'audit', n: begun.n };
    });
  }

  /** Finishes what was begun, if something was. */
  resume(): Promise<void> {
    return this.#alone(() => this.#resume());
  }

  /** One after the other: there is one row for what is begun. */
  #alone<T>(act: () => Promise<T>): Promise<T> {
    return this.#turns.run('rotation', act);
  }

  async #resume(): Promise<void> {
    const begun = await kept(this.parts.storage);
    if (begun) await this.#finish(begun);
  }

  async #finish({ n, by, ...before }: Begun): Promise<void> {
    const { storage, audit, token, tree, clock } = this.parts;
    if ((await this.#inService()) < n) await this.#succeed(await this.#announced({ n, by, ...before }));
    else {
      // What both signed is in the token; the head under the new key may not have come to us.
      const head = await this.#head();
      await tree.keep(await token.signHead({ from: head, to: head, proof: [] }), head.size, clock.now().getTime());
    }
    const { publicKey } = await token.signingKey('audit');
    await followAuditKey(this.parts.files, token, { log: (await this.#head()).origin, witness: this.parts.witnessName });
    await storage.write(async (unit) => {
      if ((await kept(unit))?.n !== n) return; // another node finished it
      await unit.run('DELETE FROM settings WHERE name = ?', [BEGUN]);
      const facts = { name: 'audit', n, publicKey: base64url(sha256Of(publicKey)) };
      await audit.append(unit, { action: 'token-key.rotate', outcome: 'done', actor: by, facts });
    });
  }

  /** The key is in the token, and an entry of the log names it. */
  async #announced(begun: Begun): Promise<Required<Begun>> {
    const { storage, audit, token } = this.parts;
    const made = await token.prepareAuditKey(begun.n);
    await this.parts.checkpoints.publish();
    const { origin } = await this.#head();
    const key = noteKeyDigest(sha256, auditNoteKey(origin, made));
    if (begun.announced?.key === key) return { ...begun, announced: begun.announced };
    return storage.write(async (unit) => {
      const facts = { n: begun.n, key };
      const { index } = await audit.append(unit, { action: 'audit.key', outcome: 'done', actor: begun.by, facts });
      const next = { ...begun, announced: { index, key } };
      // Where another node has finished it meanwhile, nothing is begun any more.
      if ((await kept(unit))?.n === begun.n) await keep(unit, next);
      return next;
    });
  }

  async #succeed({ n, announced: { index } }: Required<Begun>): Promise<void> {
    const { storage, token, tiles, tree, clock, checkpoints } = this.parts;
    const row = await storage.one<{ body: string }>('SELECT body FROM audit_entries WHERE idx = ?', [index]);
    for (let attempt = 1; ; attempt++)
      try {
        await checkpoints.publish();
        const head = await this.#head();
        if (!row || head.size <= index)
          throw new Fault('unavailable', 'audit-unavailable', 'the head of the log could not be signed in time: ask again', 2);
        const note = await token.succeedAuditKey(n, head, { index, entry: row.body, proof: await tiles.inclusion(index, head.size) });
        const size = parseCheckpoint(parseNote(note)?.text ?? '')?.size ?? head.size;
        return await tree.keep(note, size, clock.now().getTime());
      } catch (error) {
        if (!isFault(error, 'head-stale') || attempt === ATTEMPTS) throw error;
      }
  }

  async #inService(): Promise<number> {
    return (await this.parts.token.tokenKeys()).find(({ name }) => name === 'audit')?.n ?? 1;
  }

  async #head(): Promise<AuditHead> {
    const head = await this.parts.token.auditHead();
    if (!head) throw new Fault('unavailable', 'audit-unavailable', 'no head of the log was signed yet: ask again', 2);
    return head;
  }
}

async function kept(reader: Pick<Storage, 'one'>): Promise<Begun | undefined> {
  const row = await reader.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [BEGUN]);
  return row && (JSON.parse(row.value) as Begun); // only `keep` writes it
}

const keep = (unit: Unit, begun: Begun): Promise<unknown> =>
  unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value', [
    BEGUN,
    JSON.stringify(begun),
  ]);
