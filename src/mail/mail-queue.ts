import { setTimeout as pause } from 'node:timers/promises';
import { type AuditLog, type Clock, isFault, newId, parseAddress, type Reader, type Storage, type Unit } from '../foundation/index.js';
import { compose, type MailSigner } from './compose.js';
import { type ClaimedMail, claimDue, insertMail, isAnyDue, isClaimed, mailState, retryMail, settleMail } from './mail-rows.js';
import { DELIVERY_DEADLINE, DeliveryFailure, type MailTransport } from './mail-transport.js';
import { Mailer, type MailState, type PreparedMail } from './mailer.js';
import { checkMail, type OutgoingMail } from './outgoing-mail.js';

/** Keeps the bytes of a waiting mail unread in the database, for they hold challenges. The token fills it. */
export abstract class MailSealer {
  abstract sealBytes(plaintext: Uint8Array, context: string): Promise<Buffer>;
  abstract openBytes(sealed: Uint8Array, context: string): Promise<Buffer>;
}

export interface MailQueueParts {
  storage: Storage;
  audit: AuditLog;
  clock: Clock;
  transport: MailTransport;
  signer: MailSigner;
  sealer: MailSealer;
  /** The From address, which the signer's certificate names too. */
  from: string;
}

const LIMITS = {
  /** Deliveries at a time: what a mail server takes from one client without complaint (Postfix allows 50 by default). */
  deliveries: 16,
  /** Milliseconds that a node holds a mail: unsealing, then one delivery, then writing down, with room. */
  claim: 2 * DELIVERY_DEADLINE,
  /** Milliseconds between looks for retries and for what other nodes left. A fresh mail does not wait for it. */
  look: 1_000,
  /** Milliseconds before the second attempt; doubles up to `longestPause`. */
  firstPause: 1_000,
  longestPause: 60_000,
} as const;

type Outcome = { state: 'sent' } | { state: 'failed'; reason: string } | { state: 'retry'; reason: string };

/** The queue in the database and the loop that works it off; any number of nodes may run one over the same database. See the room's door. */
export class MailQueue extends Mailer {
  readonly #underWay = new Map<string, Promise<void>>();
  readonly #from: string;
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> | undefined;
  #again = false;
  #stopping = false;

  constructor(private readonly parts: MailQueueParts) {
    super();
    this.#from = parseAddress(parts.from).shown;
  }

  override async prepare(mail: OutgoingMail): Promise<PreparedMail> {
    const checked = checkMail(mail);
    const id = newId();
    const bytes = await compose(checked, { from: this.#from, id, date: this.parts.clock.now() }, this.parts.signer);
    const sealed = await this.parts.sealer.sealBytes(bytes, context(id, checked.to));
    return { id, recipient: checked.to, kind: checked.kind, expires: checked.expires, sealed };
  }

  override async enqueue(unit: Unit, mail: PreparedMail, notBefore = 0): Promise<void> {
    await insertMail(unit, mail, this.#now(), notBefore);
    // The claim is a unit of its own behind the caller's in the one writer, so it finds the mail exactly if that was committed.
    if (this.#timer) void this.#work();
  }

  override state(reader: Reader, id: string): Promise<MailState | undefined> {
    return mailState(reader, id);
  }

  override async isHopeful(reader: Reader, id: string): Promise<boolean> {
    const isTaken = await isClaimed(reader, id);
    return isTaken ? this.#underWay.has(id) : (await this.state(reader, id)) !== 'failed';
  }

  start(): void {
    this.#stopping = false;
    this.#timer ??= setInterval(() => void this.#look(), LIMITS.look);
    void this.#work();
  }

  /** Takes nothing more and waits for the deliveries under way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#round;
    await Promise.all(this.#underWay.values());
  }

  /** Delivers what is due, and resolves when nothing due is left. */
  async flush(): Promise<void> {
    do {
      await Promise.all(this.#underWay.values());
      await this.#work();
    } while (this.#underWay.size > 0);
  }

  #now(): number {
    return this.parts.clock.now().getTime();
  }

  async #look(): Promise<void> {
    // A read, so that an idle appliance writes nothing. While the database is away there is nothing to do but to look again.
    if (await isAnyDue(this.parts.storage, this.#now()).catch(() => false)) void this.#work();
  }

  /** One round at a time; who asks during a round gets another one after it. Never rejects: what could not be claimed is still due. */
  async #work(): Promise<void> {
    // Where no place is free, the end of any delivery asks again. So a round always has something to wait for, and ends after it is kept here.
    if (this.#stopping || this.#underWay.size >= LIMITS.deliveries) return;
    this.#again = true;
    this.#round ??= this.#rounds();
    await this.#round;
  }

  async #rounds(): Promise<void> {
    try {
      while (this.#again && !this.#stopping && this.#underWay.size < LIMITS.deliveries) {
        this.#again = false;
        for (const mail of await this.#claim(LIMITS.deliveries - this.#underWay.size)) this.#begin(mail);
      }
    } catch {
      // The database or the audit log is away. Nothing was claimed; the timer looks again.
    } finally {
      this.#round = undefined;
    }
  }

  #claim(limit: number): Promise<ClaimedMail[]> {
    return this.parts.storage.write(async (unit) => {
      const now = this.#now();
      const { claimed, expired, orphaned } = await claimDue(unit, {
        now,
        until: now + LIMITS.claim,
        limit,
        own: new Set(this.#underWay.keys()),
      });
      for (const row of expired) await this.#settle(unit, { ...row, claim: null }, 'failed', 'expired');
      for (const row of orphaned) await this.#settle(unit, { ...row, claim: row.claimed_until }, 'failed', 'outcome-unknown');
      return claimed;
    });
  }

  #begin(mail: ClaimedMail): void {
    const done = this.#deliver(mail)
      .then((outcome) => this.#writeDown(mail, outcome))
      .finally(() => {
        this.#underWay.delete(mail.id);
        void this.#work();
      });
    this.#underWay.set(mail.id, done);
  }

  async #deliver(mail: ClaimedMail): Promise<Outcome> {
    try {
      const bytes = await this.parts.sealer.openBytes(mail.sealed, context(mail.id, mail.recipient));
      const now = this.#now();
      if (now >= mail.expires) return { state: 'failed', reason: 'expired' };
      // Unsealing took so long (or this process slept) that another node might call the mail orphaned while we still send it.
      if (now + DELIVERY_DEADLINE > mail.claim) return this.#later(mail, 'claim-outlived');
      await this.parts.transport.deliver({ from: this.#from, to: mail.recipient }, bytes);
      return { state: 'sent' };
    } catch (error) {
      if (error instanceof DeliveryFailure)
        return error.kind === 'temporary' ? this.#later(mail, error.reason) : { state: 'failed', reason: error.reason };
      if (isFault(error)) return error.kind === 'unavailable' ? this.#later(mail, error.code) : { state: 'failed', reason: error.code };
      return { state: 'failed', reason: 'outcome-unknown' }; // a defect of ours; it may have happened after the mail was handed over
    }
  }

  /** Another attempt, if there is time for one. */
  #later(mail: ClaimedMail, reason: string): Outcome {
    return { state: this.#nextTry(mail) < mail.expires ? 'retry' : 'failed', reason };
  }

  #nextTry(mail: ClaimedMail): number {
    return this.#now() + Math.min(LIMITS.firstPause * 2 ** (mail.attempts - 1), LIMITS.longestPause);
  }

  /** Keeps trying while the database or the log is away: this process alone knows what became of the mail. */
  async #writeDown(mail: ClaimedMail, outcome: Outcome): Promise<void> {
    for (let wait = 100; ; wait = Math.min(wait * 2, 5_000))
      try {
        await this.parts.storage.write(async (unit) => {
          if (outcome.state === 'retry') await retryMail(unit, mail, this.#nextTry(mail), outcome.reason);
          else await this.#settle(unit, mail, outcome.state, outcome.state === 'failed' ? outcome.reason : undefined);
        });
        return;
      } catch {
        if (this.#stopping) return; // the claim stands in the database, so the next start reports this mail as unknown
        await pause(wait);
      }
  }

  async #settle(
    unit: Unit,
    mail: PreparedMail & { attempts: number; claim: number | null },
    state: 'sent' | 'failed',
    reason?: string,
  ): Promise<void> {
    if (!(await settleMail(unit, mail.id, mail.claim, state, reason ?? null))) return;
    await this.parts.audit.append(unit, {
      action: 'mail.send',
      outcome: state === 'sent' ? 'done' : 'failed',
      ...(reason === undefined ? {} : { reason }),
      actor: { kind: 'system' },
      subject: mail.id,
      facts: { kind: mail.kind, attempts: mail.attempts },
      personal: { recipient: mail.recipient },
    });
  }
}

/** A mail is sealed to its recipient: a row that was pointed elsewhere does not open. */
const context = (id: string, recipient: string): string => `mail:${id}:${recipient}`;
