import { randomBytes } from 'node:crypto';
import type { Budgets, Request, RowSeal } from '../access/index.js';
import {
  type Address,
  type AuditLog,
  base64url,
  type Clock,
  isFault,
  newId,
  parseAddress,
  type Storage,
  sameBytes,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { Mailer } from '../mail/index.js';
import { type Membership, refused } from './membership.js';
import type { StaffSessions } from './staff-session.js';

/** Crockford's base 32: nothing that is read for something else. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
/** 60 bits. */
const LENGTH = 12;
/** Wrong codes before a sign-in is over. */
const TRIES = 5;
/** While this share of its life is left, further requests share a code: a stranger who asks again and again fills no mailbox. */
const SHARED = 0.5;

interface CodeRow {
  id: string;
  address: string;
  digest: Buffer;
  expires: number;
  mac: Buffer;
}

/**
 * Sign-in by a code that only the mailbox's reader sees. Asking is the same for every address that there could be: the same rows, and a mail is
 * made for each, and goes out for those who belong here, after the answer.
 */
export class MailedCode {
  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      clock: Clock;
      budgets: Budgets;
      mailer: Mailer;
      seal: RowSeal;
      membership: Membership;
      sessions: StaffSessions;
    },
    private readonly settings: { minutes: number; origin: () => string },
    private readonly defect: (error: unknown) => void,
  ) {}

  /** Resolves with the id under which this browser gives the code. */
  async ask(address: Address, request: Request): Promise<{ id: string; expiresAt: string }> {
    await this.parts.budgets.take(this.parts.budgets.ofSignIn(request));
    const now = this.parts.clock.now().getTime();
    const life = this.settings.minutes * 60_000;
    const [id, fresh, code] = [newId(), newId(), newCode()];
    const row = { id: fresh, address: address.key, digest: digestOf(fresh, code), expires: now + life };
    const until = await this.parts.storage.write(async (unit) => {
      const newest = await unit.one<CodeRow>(
        'SELECT * FROM staff_codes WHERE address = ? AND spent = 0 AND expires > ? ORDER BY expires DESC LIMIT 1',
        [address.key, now + life * SHARED],
      );
      const live = newest && this.parts.seal.holds('staff_codes', sealed(newest), newest.mac) ? newest : undefined;
      if (!live)
        await unit.run('INSERT INTO staff_codes (id, address, digest, expires, spent, mac) VALUES (?, ?, ?, ?, 0, ?)', [
          row.id,
          row.address,
          row.digest,
          row.expires,
          this.parts.seal.mac('staff_codes', sealed(row)),
        ]);
      await unit.run('INSERT INTO staff_sign_ins (id, code, attempts) VALUES (?, ?, 0)', [id, live?.id ?? fresh]);
      return live?.expires;
    });
    if (until === undefined) void this.#send(address, { id: fresh, code, expires: now + life }, request);
    return { id, expiresAt: new Date(until ?? now + life).toISOString() };
  }

  /** Resolves with the `Set-Cookie` value. Rejects with `sign-in-refused` for whatever is wrong with it. */
  async redeem(id: string, given: string, request: Request): Promise<string> {
    await this.parts.budgets.take(this.parts.budgets.ofSignIn(request));
    const { storage, clock, sessions } = this.parts;
    const now = clock.now().getTime();
    let code: CodeRow | undefined;
    const prove = async () => {
      code = await storage.write(async (unit) => {
        if ((await unit.run('UPDATE staff_sign_ins SET attempts = attempts + 1 WHERE id = ? AND attempts < ?', [id, TRIES])) === 0)
          return undefined;
        return unit.one<CodeRow>(
          'SELECT * FROM staff_codes WHERE id = (SELECT code FROM staff_sign_ins WHERE id = ?) AND spent = 0 AND expires > ?',
          [id, now],
        );
      });
      // Nobody's code is compared as well.
      const isRight = sameBytes(digestOf(code?.id ?? '', normal(given)), code?.digest ?? Buffer.alloc(32));
      // Who writes the database cannot make a code of their own.
      if (!code || !isRight || !this.parts.seal.holds('staff_codes', sealed(code), code.mac)) throw refused();
      return { address: parseAddress(code.address) };
    };
    return sessions.begin('code', request, prove, async (unit) => {
      if ((await unit.run('UPDATE staff_codes SET spent = 1 WHERE id = ? AND spent = 0', [code?.id ?? ''])) === 0) throw refused();
    });
  }

  /** Deletes what is over. */
  async forgetExpired(): Promise<void> {
    await this.parts.storage.write(async (unit) => {
      const now = this.parts.clock.now().getTime();
      await unit.run('DELETE FROM staff_sign_ins WHERE code IN (SELECT id FROM staff_codes WHERE expires < ?)', [now]);
      await unit.run('DELETE FROM staff_codes WHERE expires < ?', [now]);
    });
  }

  async #send(address: Address, code: { id: string; code: string; expires: number }, request: Request): Promise<void> {
    try {
      const isMember = await this.parts.membership.require(address).then(
        () => true,
        (error: unknown) => (isFault(error, 'sign-in-refused') ? false : Promise.reject(error)),
      );
      const mail = await this.parts.mailer.prepare({
        kind: 'sign-in',
        to: address.shown,
        subject: 'Your code for signing in',
        text: codeText(code.code, this.settings.minutes, this.settings.origin()),
        expires: code.expires,
      });
      await this.parts.storage.write(async (unit) => {
        if (isMember) await this.parts.mailer.enqueue(unit, mail);
        await this.#entry(unit, address, request, isMember);
      });
    } catch (error) {
      if (!isFault(error)) this.defect(error);
      // The next request makes another code: nobody was ever told this one.
      await this.parts.storage.write((unit) => unit.run('UPDATE staff_codes SET spent = 1 WHERE id = ?', [code.id])).catch(() => {});
    }
  }

  async #entry(unit: Unit, address: Address, request: Request, isMember: boolean): Promise<void> {
    await this.parts.audit.append(unit, {
      action: 'staff.code',
      ...(isMember ? { outcome: 'done' } : { outcome: 'refused', reason: 'sign-in-refused' }),
      actor: { kind: 'stranger' },
      request: request.id,
      personal: { address: address.key, network: request.network },
    });
  }
}

const sealed = ({ id, address, digest, expires }: Omit<CodeRow, 'mac'>) => ({ id, address, digest: base64url(digest), expires });

const newCode = (): string => [...randomBytes(LENGTH)].map((byte) => ALPHABET[byte & 31]).join('');

/** As people type and copy: any case, blanks and hyphens anywhere, O for 0, I and L for 1. */
const normal = (text: string): string => text.toUpperCase().replace(/[\s-]/g, '').replaceAll('O', '0').replace(/[IL]/g, '1');

const digestOf = (id: string, code: string): Buffer => sha256(`staff code\n${id}\n${code}`);

const codeText = (code: string, minutes: number, origin: string): string =>
  `Somebody asked to sign in with this address at ${origin}\n\nThe code, good for ${minutes} minutes and once:\n\n  ${code.replace(/(.{4})(?=.)/g, '$1-')}\n\nType it only on that page, in the window that asked for it. Nobody will ever ask you for it, not your IT department either. If it was not you, there is nothing to do.\n`;
