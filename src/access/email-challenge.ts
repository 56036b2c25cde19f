import { randomBytes } from 'node:crypto';
import { type Address, base64url, type Clock, isFault, newId, type Storage, type Unit } from '../foundation/index.js';
import type { Mailer, PreparedMail } from '../mail/index.js';
import type { Token } from '../tokens/index.js';

/** The mailed half of an enrolment's token, live for one address. */
export interface Challenge {
  id: string;
  /** base64url of 16 random bytes. In memory only: at rest it is sealed by the token. */
  half: string;
  expires: number;
  /** Present when this challenge is new: what must be stored and queued with it. */
  fresh?: { sealedHalf: Buffer; mail: PreparedMail };
}

interface ChallengeRow {
  id: string;
  mail: string;
  half: Buffer;
  expires: number;
}

/** A live challenge is used again while it has this share of its life left; below, a new mail goes out beside it. */
const REUSE_SHARE = 0.3;

/**
 * Proves control of a mailbox by a mail that only its reader sees (RFC 8823 §3.1). One mail is live per address: further requests share its
 * half, so a stranger who asks again and again neither floods the mailbox nor shuts its owner out.
 */
export class EmailChallenge {
  constructor(
    private readonly storage: Storage,
    private readonly token: Token,
    private readonly mailer: Mailer,
    private readonly clock: Clock,
    private readonly minutes: number,
  ) {}

  /** Finds or makes the live challenge of this address. A new one is stored by `insert`. */
  async prepare(address: Address, enrolment: string): Promise<Challenge> {
    const now = this.clock.now().getTime();
    const life = this.minutes * 60_000;
    const live = await this.storage.one<ChallengeRow>(
      'SELECT id, mail, half, expires FROM challenges WHERE address = ? AND spent = 0 AND expires > ? ORDER BY expires DESC LIMIT 1',
      [address.key, now + life * REUSE_SHARE],
    );
    // A challenge whose mail failed, or was in the hands of a process that died, is no challenge: nobody may ever read its half.
    if (live && (await this.mailer.isHopeful(this.storage, live.mail))) {
      const half = await this.#open(live, address);
      if (half) return { id: live.id, half, expires: live.expires };
    }
    const id = newId();
    const half = base64url(randomBytes(16));
    const expires = now + life;
    const mail = await this.mailer.prepare({
      to: address.shown,
      kind: 'challenge',
      subject: `ACME: ${half}`,
      headers: {
        'Auto-Submitted': 'auto-generated; type=acme',
        'EKMS-Enrolment': enrolment,
        'EKMS-Expires': new Date(expires).toISOString(),
      },
      text: challengeText(this.minutes),
      expires,
    });
    return {
      id,
      half,
      expires,
      fresh: { mail, sealedHalf: await this.token.sealBytes(Buffer.from(half, 'ascii'), context(id, address, expires)) },
    };
  }

  /** Undefined for a row that was not sealed as it stands: it is passed over, and a fresh challenge goes out. */
  async #open(live: ChallengeRow, address: Address): Promise<string | undefined> {
    try {
      return (await this.token.openBytes(live.half, context(live.id, address, live.expires))).toString('ascii');
    } catch (error) {
      if (isFault(error, 'seal-broken')) return undefined;
      throw error;
    }
  }

  /** Stores a new challenge and queues its mail, in the unit of the enrolment that it serves. */
  async insert(unit: Unit, challenge: Challenge, address: Address, enrolment: string): Promise<void> {
    if (!challenge.fresh) return;
    await unit.run('INSERT INTO challenges (id, mail, address, half, enrolment, expires, spent) VALUES (?, ?, ?, ?, ?, ?, 0)', [
      challenge.id,
      challenge.fresh.mail.id,
      address.key,
      challenge.fresh.sealedHalf,
      enrolment,
      challenge.expires,
    ]);
    await this.mailer.enqueue(unit, challenge.fresh.mail);
  }

  /** After a success the half serves no new request; enrolments that were asked for before keep theirs. */
  async spend(unit: Unit, id: string): Promise<void> {
    await unit.run('UPDATE challenges SET spent = 1 WHERE id = ?', [id]);
  }
}

const DAY = 86_400_000;

/** Deletes what is over and of no more use: challenges, nonces, enrolments that came to nothing, settled mails, dead links. The log keeps what happened. */
export async function forgetExpired(storage: Storage, now: number): Promise<void> {
  await storage.write(async (unit) => {
    await unit.run('DELETE FROM challenges WHERE expires < ?', [now - DAY]);
    await unit.run('DELETE FROM app_nonces WHERE expires < ?', [now]);
    await unit.run('DELETE FROM enrolments WHERE issue_by < ?', [now - 30 * DAY]);
    await unit.run('DELETE FROM freezes WHERE expires < ?', [now]);
    await unit.run("DELETE FROM budget_use WHERE scope <> 'rollout' AND day < ?", [Math.floor(now / DAY)]);
    await unit.run('DELETE FROM sessions WHERE ends < ?', [now]);
    await unit.run('DELETE FROM ceremonies WHERE expires < ?', [now]);
    await unit.run("DELETE FROM mails WHERE state <> 'queued' AND expires < ?", [now - 30 * DAY]);
  });
}

/** A half is sealed to its address and its end: a row that was pointed elsewhere, or revived, does not open. */
const context = (id: string, address: Address, expires: number): string => `challenge:${id}:${address.key}:${expires}`;

const challengeText = (minutes: number): string =>
  `Your mail program asks to read your encrypted mail on a new device. It answers this message by itself within ${minutes} minutes; there is nothing to do.\r\n\r\nIf you are not setting up a device now, somebody else may be trying to. Without this message they get nothing: do not pass it on.\r\n`;
