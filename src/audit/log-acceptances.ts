import { randomBytes } from 'node:crypto';
import { toBase64 } from '../codec/merkle/index.js';
import { type AuditActor, type AuditLog, base64url, type Clock, Fault, newId, type Storage, sha256 } from '../foundation/index.js';
import { fulfil, intend } from '../storage/index.js';
import {
  ACCEPTANCE_LIFE,
  type AgentsRecord,
  type AuditHead,
  acceptanceBytes,
  type LogAcceptance,
  type RecoveryApproval,
  type Sealed,
  type Token,
} from '../tokens/index.js';
import type { LogTree } from './log-tree.js';
import type { LogStanding } from './standing.js';
import type { TileReader } from './tile-reader.js';

export interface LogAcceptanceParts {
  storage: Storage;
  audit: AuditLog;
  tree: LogTree;
  tiles: TileReader;
  token: Pick<Token, 'auditHead' | 'beginOrigin'>;
  standing: LogStanding;
  clock: Clock;
  /** The list of agents in force; undefined where it is the ceremony's. */
  agents: () => Promise<Sealed<AgentsRecord> | undefined>;
  /** Name of the log on a new appliance: later ones begin with it. */
  origin: string;
  /** What must hold of a database that lost its latest acts, before it is served from (design §10). */
  afterLoss: (kept: { entries: number; nothingLost: boolean }) => Promise<unknown>;
  /** Hears the name under which the log goes on. */
  named: (origin: string) => Promise<void>;
}

/**
 * The way on after a log that was put back or forked. Persons sign what was lost and what is kept; the token process verifies that by itself and begins a
 * log under another name, which holds what is kept and, after it, what was accepted. What the database knows of devices is too old to be believed.
 */
export class LogAcceptances {
  constructor(private readonly parts: LogAcceptanceParts) {}

  /** What persons are to sign. Rejects with `log-whole` where there is nothing to accept. */
  async ask(): Promise<{ acceptance: LogAcceptance; sign: string }> {
    const { standing, token, tree, clock, origin } = this.parts;
    const { breach } = standing;
    if (!breach) throw new Fault('conflict', 'log-whole', 'the log is the one that was signed: there is nothing to accept');
    const signed = await this.#signed(token, breach.known.origin);
    const { size, root } = await tree.grow();
    const now = clock.now();
    const acceptance: LogAcceptance = {
      v: 1,
      why: breach.code,
      signed,
      known: breach.known,
      kept: { size, root: toBase64(root) },
      origin: laterOrigin(origin, now),
      expires: now.getTime() + ACCEPTANCE_LIFE,
    };
    return { acceptance, sign: acceptanceBytes(acceptance).toString('base64') };
  }

  /** Rejects with the codes of `Token.beginOrigin`; then nothing is served, as before. */
  async accept(acceptance: LogAcceptance, approvals: readonly RecoveryApproval[], by: AuditActor): Promise<{ origin: string }> {
    const { storage, audit, tree, tiles, token, standing, clock } = this.parts;
    if (!standing.breach) throw new Fault('conflict', 'log-whole', 'the log is the one that was signed: there is nothing to accept');
    const id = newId();
    await storage.write(async (unit) => {
      await audit.append(unit, { action: 'audit.accept', outcome: 'done', actor: by, subject: id, facts: factsOf(acceptance) });
      await intend(unit, id, 'accept-log', { origin: acceptance.origin, lost: isOnlyToken(acceptance) ? 'nothing' : 'acts' }, clock);
    });
    tiles.forget();
    const grown = await tree.grow();
    const to = { origin: acceptance.origin, size: grown.size, root: toBase64(grown.root) };
    let note: string;
    try {
      const proof = await tiles.consistency(acceptance.kept.size, to.size);
      const agents = await this.parts.agents();
      note = await token.beginOrigin({ acceptance, approvals, ...(agents ? { agents } : {}), to, proof });
    } catch (error) {
      if (error instanceof Fault && error.kind !== 'unavailable')
        await storage.write(async (unit) => {
          await fulfil(unit, id);
          await audit.append(unit, { action: 'audit.accept', outcome: 'refused', reason: error.code, actor: by, subject: id });
        });
      throw error;
    }
    await tree.keep(note, to.size, clock.now().getTime());
    await this.#goOn(id, acceptance.origin, isOnlyToken(acceptance));
    return { origin: acceptance.origin };
  }

  /** After a crash in between: finishes what the token has begun, forgets what it has not. */
  async settle(id: string, { origin = '', lost }: Record<string, string>): Promise<void> {
    if ((await this.parts.token.auditHead())?.origin === origin) await this.#goOn(id, origin, lost === 'nothing');
    else await this.parts.storage.write((unit) => fulfil(unit, id));
  }

  async #goOn(id: string, origin: string, nothingLost: boolean): Promise<void> {
    const { storage, audit, tree, standing, afterLoss, named } = this.parts;
    await afterLoss({ entries: (await tree.state()).size, nothingLost });
    await named(origin);
    await storage.write(async (unit) => {
      await audit.append(unit, { action: 'audit.origin', outcome: 'done', actor: { kind: 'system' }, subject: id, facts: { origin } });
      await fulfil(unit, id);
    });
    standing.mend();
  }

  async #signed(token: Pick<Token, 'auditHead'>, origin: string): Promise<AuditHead> {
    return (await token.auditHead()) ?? { origin, size: 0, root: '' };
  }
}

/** The name of a log that goes on after a loss; never used before. @param base its name on a new appliance */
export const laterOrigin = (base: string, now: Date): string =>
  `${base}/${now.toISOString().slice(0, 10)}-${randomBytes(3).toString('hex')}`;

/**
 * A log that came out of a backup goes on under another name: what was signed after the backup, and is remembered by witnesses, auditors and devices, is not of its past. Those
 * whose shares made the token again have accepted it; its next entry says what is known of the loss.
 * @param known the last head that anybody remembers under the former name
 */
export async function goOnRestored(
  { storage, audit }: Pick<LogAcceptanceParts, 'storage' | 'audit'>,
  of: { backup: string; known: AuditHead; kept: number; origin: string },
): Promise<void> {
  const { backup, known, kept, origin } = of;
  const event = { outcome: 'done', actor: { kind: 'operator' }, subject: backup } as const;
  await storage.write(async (unit) => {
    // The former name's note is nobody's any more: a witness is not to take it for where this log stands.
    await unit.run('UPDATE audit_tree SET note = NULL, fence = fence + 1 WHERE id = 1');
    const facts = factsOf({ why: 'audit-rolled-back', known, kept: { size: kept }, origin });
    await audit.append(unit, { ...event, action: 'audit.accept', facts });
    await audit.append(unit, { ...event, action: 'audit.origin', facts: { origin } });
  });
}

/** Whether the database is whole, and only the token forgot. */
const isOnlyToken = ({ why, known, kept }: LogAcceptance): boolean => why === 'audit-token-older' && kept.size >= known.size;

/** The last known head of the old name, and the range that is lost. */
const factsOf = ({
  why,
  known,
  kept,
  origin,
}: Pick<LogAcceptance, 'why' | 'known' | 'origin'> & { kept: Pick<LogAcceptance['kept'], 'size'> }) => ({
  why,
  from: known.origin,
  size: known.size,
  root: base64url(known.root === '' ? sha256('') : Buffer.from(known.root, 'base64')),
  kept: kept.size,
  lost: Math.max(0, known.size - kept.size),
  origin,
});
