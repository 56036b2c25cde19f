import { z } from 'zod';
import { type Origins, type RowSeal } from '../access/index.js';
import {
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  Fault,
  newId,
  parseAddress,
  type Storage,
  sha256,
  type Unit,
} from '../foundation/index.js';
import type { Mailer, PreparedMail } from '../mail/index.js';
import type { Administrators } from './administrators.js';
import type { InvitationLink, Invitations } from './invitations.js';

export interface Officer {
  name: string;
  address: string;
}

/** The glass is being broken: nothing happens before `opens`, and anybody of the administrators can stop it until then. */
export interface BreakGlassCase {
  id: string;
  officers: Officer[];
  begun: number;
  opens: number;
  closes: number;
}

interface BreakGlassRow extends Omit<BreakGlassCase, 'officers'> {
  officers: string;
  state: 'waiting' | 'opened' | 'cancelled';
  mac: Buffer;
}

const HOUR = 3_600_000;
/** Hours that it stays open once the wait is over; then it has to be begun anew. */
const OPEN_HOURS = 24;

const officersShape = z.array(z.strictObject({ name: z.string(), address: z.string() }));
const sealed = ({ id, officers, begun, opens, closes, state }: Omit<BreakGlassRow, 'mac'>) => ({
  id,
  officers,
  begun,
  opens,
  closes,
  state,
});

/**
 * The way back when too few officers can sign in for anything to take two persons: slow, loud, and not silent at any point. The operator names new
 * officers; every administrator and every `breakGlass.announce` address is told by mail; pages, doctor and health show it in red; whoever still
 * can sign in may stop it. Only after the wait, fixed at the beginning, do the named officers get links.
 */
export class BreakGlass {
  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      seal: RowSeal;
      clock: Clock;
      mailer: Mailer;
      origins: Origins;
      administrators: Administrators;
      invitations: Invitations;
    },
    private readonly rules: { hours: number; announce: readonly string[] },
  ) {}

  /** Rejects with `bootstrap-open` (then one simply invites), `break-glass-waiting`, or as `parseAddress`. */
  async begin(officers: readonly Officer[], by: AuditActor): Promise<BreakGlassCase> {
    const { storage, audit, seal, clock, administrators } = this.parts;
    if (!(await administrators.bootstrap.isOver()))
      throw new Fault('conflict', 'bootstrap-open', 'there is no glass to break yet: invite security officers (ekms admin invite)');
    if (await this.waiting()) throw waiting();
    const begun = clock.now().getTime();
    const named = officers.map(({ name, address }) => ({ name, address: parseAddress(address).key }));
    const opens = begun + this.rules.hours * HOUR;
    const row = {
      id: newId(),
      officers: JSON.stringify(named),
      begun,
      opens,
      closes: opens + OPEN_HOURS * HOUR,
      state: 'waiting' as const,
    };
    const mails = await this.#announcements(
      'The glass is being broken at EKMS',
      `Whoever operates EKMS wants to make new security officers without the approval of two:\n\n${told(named)}\n\nNothing happens before ${new Date(opens).toISOString()}. If this should not happen, stop it: sign in at ${this.parts.origins.of('administration')}/ and press Stop, any administrator can. Tell the others.\n`,
      row.closes,
    );
    await storage.write(async (unit) => {
      if (await this.#row(unit)) throw waiting();
      const mac = seal.mac('break_glass', sealed(row));
      await unit.run('INSERT INTO break_glass (id, officers, begun, opens, closes, state, mac) VALUES (?, ?, ?, ?, ?, ?, ?)', [
        ...[row.id, row.officers, begun, opens, row.closes, row.state],
        mac,
      ]);
      for (const mail of mails) await this.parts.mailer.enqueue(unit, mail);
      const facts = { officers: named.length, opens, announced: mails.length, named: base64url(sha256(row.officers)) };
      await audit.append(unit, { action: 'break-glass.begin', outcome: 'done', actor: by, subject: row.id, facts });
    });
    return caseOf({ ...row, mac: Buffer.alloc(0) });
  }

  /** The one that waits or is open now. */
  async waiting(): Promise<BreakGlassCase | undefined> {
    const row = await this.#row(this.parts.storage);
    return row && caseOf(row);
  }

  /** @param by any administrator, or the operator. Rejects with `break-glass-none`. */
  async cancel(by: AuditActor): Promise<void> {
    const { storage, audit } = this.parts;
    await storage.write(async (unit) => {
      const row = await this.#row(unit);
      if (!row) throw none();
      await this.#turn(unit, row, 'cancelled');
      await audit.append(unit, { action: 'break-glass.cancel', outcome: 'done', actor: by, subject: row.id });
    });
  }

  /** After the wait: a link for each named officer. Rejects with `break-glass-none`, `break-glass-early`. */
  async open(by: AuditActor): Promise<(Officer & InvitationLink)[]> {
    const { storage, audit, clock, invitations } = this.parts;
    const due = await this.waiting();
    if (!due) throw none();
    if (clock.now().getTime() < due.opens)
      throw new Fault(
        'conflict',
        'break-glass-early',
        `nothing is given before ${new Date(due.opens).toISOString()}; until then any administrator can stop it`,
      );
    const mails = await this.#announcements(
      'The glass was broken at EKMS',
      `New security officers were invited without the approval of two:\n\n${told(due.officers)}\n`,
      due.closes,
    );
    // Links first: a crash in between leaves links that nobody saw, and the case as it was.
    const links: (Officer & InvitationLink)[] = [];
    for (const officer of due.officers) links.push({ ...officer, ...(await invitations.breakGlass(officer, by)) });
    await storage.write(async (unit) => {
      const row = await this.#row(unit);
      if (row?.id !== due.id) throw none();
      await this.#turn(unit, row, 'opened');
      for (const mail of mails) await this.parts.mailer.enqueue(unit, mail);
      await audit.append(unit, {
        action: 'break-glass.open',
        outcome: 'done',
        actor: by,
        subject: row.id,
        facts: { officers: due.officers.length },
      });
    });
    return links;
  }

  async #row(reader: Pick<Storage, 'all'>): Promise<BreakGlassRow | undefined> {
    const { seal, clock } = this.parts;
    const now = clock.now().getTime();
    const rows = await reader.all<BreakGlassRow>("SELECT * FROM break_glass WHERE state = 'waiting' AND closes > ?", [now]);
    return rows.find(({ mac, ...row }) => seal.holds('break_glass', sealed(row), mac));
  }

  async #turn(unit: Unit, { mac: _, ...row }: BreakGlassRow, state: BreakGlassRow['state']): Promise<void> {
    const mac = this.parts.seal.mac('break_glass', sealed({ ...row, state }));
    await unit.run('UPDATE break_glass SET state = ?, mac = ? WHERE id = ?', [state, mac, row.id]);
  }

  async #announcements(subject: string, text: string, expires: number): Promise<PreparedMail[]> {
    const people = (await this.parts.administrators.list()).map(({ address }) => address);
    const to = [...new Set([...people, ...this.rules.announce])];
    return Promise.all(to.map((address) => this.parts.mailer.prepare({ kind: 'announcement', to: address, subject, text, expires })));
  }
}

const caseOf = ({ id, officers, begun, opens, closes }: BreakGlassRow): BreakGlassCase => ({
  ...{ id, begun, opens, closes },
  officers: officersShape.parse(JSON.parse(officers)),
});
const told = (officers: readonly Officer[]): string => officers.map(({ name, address }) => `  ${name} <${address}>`).join('\n');
const waiting = () => new Fault('conflict', 'break-glass-waiting', 'the glass is being broken already: see ekms admin break-glass show');
const none = () => new Fault('not-found', 'break-glass-none', 'the glass is not being broken, or it was stopped, or its time is over');
