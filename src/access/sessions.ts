import { randomBytes } from 'node:crypto';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  fromBase64,
  newId,
  type Reader,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { Audience } from './origins.js';
import type { Request } from './request.js';
import type { RowSeal } from './row-seal.js';

/** Somebody who signed in with a browser. */
export interface Session {
  /** Names it in lists and in the log; opens nothing. */
  id: string;
  audience: Audience;
  /** Administrator's id; of staff, what their sign-in says. */
  subject: string;
  /** How they proved it. */
  method: string;
  /** It counts from this address alone. */
  network: string;
  /** Milliseconds since 1970: of the sign-in, of the last full proof, and of the end however busy. */
  began: number;
  proved: number;
  ends: number;
}

/** Milliseconds. */
export interface SessionLife {
  idle: number;
  absolute: number;
}

interface SessionRow extends Session {
  used: number;
  mac: Buffer;
}

/** 256 bits: guessing is no way in. */
const TOKEN_BYTES = 32;
/** `used` is written at most this often, in milliseconds: reading a list is no write. */
const TOUCH = 60_000;

const sealed = ({ id, audience, subject, method, network, began, proved, ends }: Session, digest: Buffer) => ({
  ...{ id, audience, subject, method, network, began, proved, ends },
  digest: base64url(digest),
});
const cookieName = (audience: Audience) => `__Host-ekms-${audience}`;

/**
 * Sessions of browsers. The cookie holds 256 random bits, the database their digest; a session belongs to one listener (the audience) and one
 * network address. The token is always new at a sign-in: what a browser brought along is never taken up (no fixation).
 */
export class Sessions {
  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly seal: RowSeal,
    private readonly clock: Clock,
    private readonly lives: Readonly<Record<Audience, SessionLife>>,
  ) {}

  /**
   * Begins a session in the unit of the sign-in that proves it. Resolves with the `Set-Cookie` value.
   * @param by who it will be; `personal` and `method` go into the entry
   */
  async begin(
    unit: Unit,
    { audience, subject, method }: Pick<Session, 'audience' | 'subject' | 'method'>,
    by: AuditActor,
    request: Request,
    personal: Readonly<Record<string, string>> = {},
  ): Promise<{ session: Session; cookie: string }> {
    const token = randomBytes(TOKEN_BYTES);
    const now = this.clock.now().getTime();
    const { absolute } = this.lives[audience];
    const session: Session = {
      ...{ id: newId(), audience, subject, method, network: request.network },
      ...{ began: now, proved: now, ends: now + absolute },
    };
    const digest = sha256(token);
    await unit.run(
      'INSERT INTO sessions (token_digest, id, audience, subject, method, network, began, proved, used, ends, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
      [digest, session.id, audience, subject, method, session.network, now, now, now, session.ends, this.#mac(session, digest)],
    );
    await this.audit.append(unit, {
      action: 'session.begin',
      outcome: 'done',
      actor: by,
      subject: session.id,
      request: request.id,
      facts: { audience, method },
      personal: { ...personal, network: request.network },
    });
    // RFC 6265bis §4.1.3.2: a __Host- cookie is Secure, has no Domain and Path=/. Without Max-Age it ends with the browser.
    return { session, cookie: `${cookieName(audience)}=${base64url(token)}; Path=/; Secure; HttpOnly; SameSite=Strict` };
  }

  /**
   * The session that a request's cookie names. Rejects with `session-missing`, `session-ended` (unknown, over, idle for too long, of another
   * listener), or `session-elsewhere`; a cookie that comes from another address has leaked, so its session ends.
   */
  async admit(audience: Audience, cookies: string | undefined, request: Request): Promise<Session> {
    const token = cookieOf(cookies, cookieName(audience));
    if (token === undefined) throw new Fault('unauthenticated', 'session-missing', 'sign in first');
    const digest = sha256(fromBase64(token, 'base64url') ?? Buffer.alloc(0));
    const row = await this.storage.one<SessionRow>('SELECT * FROM sessions WHERE token_digest = ?', [digest]);
    const now = this.clock.now().getTime();
    const ended = new Fault('unauthenticated', 'session-ended', 'this session is over: sign in again');
    if (row?.audience !== audience || !this.seal.holds('sessions', sealed(row, digest), row.mac)) throw ended;
    if (now >= row.ends || now >= row.used + this.lives[audience].idle) throw ended;
    if (row.network !== request.network) {
      await this.endNow(row.id, { kind: 'system' });
      throw new Fault('unauthenticated', 'session-elsewhere', 'this session began at another address, and has been ended: sign in again');
    }
    if (now >= row.used + TOUCH)
      await this.storage.write((unit) => unit.run('UPDATE sessions SET used = ? WHERE token_digest = ?', [now, digest]));
    return plain(row);
  }

  /** The person proved themself again, in full; the caller's unit holds the proof. */
  async renewProof(unit: Unit, id: string): Promise<void> {
    const row = await unit.one<SessionRow & { token_digest: Buffer }>('SELECT * FROM sessions WHERE id = ?', [id]);
    if (!row) throw new Fault('unauthenticated', 'session-ended', 'this session is over: sign in again');
    const proved = this.clock.now().getTime();
    const mac = this.#mac({ ...plain(row), proved }, row.token_digest);
    await unit.run('UPDATE sessions SET proved = ?, mac = ? WHERE id = ?', [proved, mac, id]);
  }

  /** @param by whoever ends it: its owner, an officer, the system. A session that is over already is no fault. */
  async end(unit: Unit, id: string, by: AuditActor): Promise<void> {
    const ended = await unit.run('DELETE FROM sessions WHERE id = ?', [id]);
    if (ended > 0) await this.audit.append(unit, { action: 'session.end', outcome: 'done', actor: by, subject: id });
  }

  endNow(id: string, by: AuditActor): Promise<void> {
    return this.storage.write((unit) => this.end(unit, id, by));
  }

  async endAllOf(unit: Unit, audience: Audience, subject: string, by: AuditActor): Promise<void> {
    for (const { id } of await this.list(audience, subject, unit)) await this.end(unit, id, by);
  }

  /** Those that are not over, newest first; without a subject, everybody's. */
  async list(audience: Audience, subject?: string, reader: Reader = this.storage): Promise<(Session & { used: number })[]> {
    const now = this.clock.now().getTime();
    const rows = await reader.all<SessionRow>(
      `SELECT * FROM sessions WHERE audience = ?${subject === undefined ? '' : ' AND subject = ?'} AND ends > ? ORDER BY began DESC`,
      subject === undefined ? [audience, now] : [audience, subject, now],
    );
    return rows.filter(({ used }) => now < used + this.lives[audience].idle).map((row) => ({ ...plain(row), used: row.used }));
  }

  /** The `Set-Cookie` value that makes a browser forget it. */
  endingCookie(audience: Audience): string {
    return `${cookieName(audience)}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0`;
  }

  #mac(session: Session, digest: Buffer): Buffer {
    return this.seal.mac('sessions', sealed(session, digest));
  }
}

const plain = ({ id, audience, subject, method, network, began, proved, ends }: Session): Session => ({
  ...{ id, audience, subject, method, network, began, proved, ends },
});

/** RFC 6265 §5.4. A name that comes twice is no session: only a browser that somebody tampers with sends two. */
function cookieOf(header: string | undefined, name: string): string | undefined {
  const values = (header ?? '')
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${name}=`));
  return values.length === 1 ? values[0]?.slice(name.length + 1) : undefined;
}
