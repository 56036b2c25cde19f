import { type AuditActor, type AuditLog, base64url, type Clock, Fault, type Storage, sha256, type Unit } from '../foundation/index.js';
import { type AppActor, auditActor, type DeviceActor, type StaffActor } from './actor.js';
import { sourceOf } from './address-blocks.js';
import { type BudgetLimits, type Counter, DAY, type Limit, MINUTE, type Scope, TRIES } from './budget-limits.js';
import type { Request } from './request.js';
import type { Sites } from './sites.js';

/** One account that a request is charged to. */
interface Draw {
  scope: Scope;
  subject: string;
  limit: Limit;
  /** Which account that is, of all. */
  key: string;
}

/** The accounts of one kind of request of one asker. */
interface Accounts {
  counter: Counter;
  /** The asker's own, narrowest first. Over one of these, the asker is refused. */
  own: readonly Draw[];
  /** Shared with others. Over one of these, each asker gets one request a minute: slowed, never stopped. */
  shared: readonly Draw[];
  /** Which of all askers: what they hold in hand is by this. */
  asker: string;
}

/** What one request takes: one of each. */
export interface Spending extends Accounts {
  event: {
    actor: AuditActor;
    request: string;
    personal: { network: string };
    device?: string;
    employee?: string;
  };
}

type Window = 'minute' | 'day';

/** Over one account. It carries what the alarm says. */
class OverBudget extends Fault {
  constructor(
    readonly draw: Draw,
    readonly window: Window,
    now: number,
  ) {
    const length = window === 'minute' ? MINUTE : DAY;
    const left = Math.max(1, Math.ceil((length - (now % length)) / 1000));
    super('too-many', 'budget-exceeded', 'this has been asked for too often; try again later', left);
  }
}

/** Part of a shared account that this process may give out without asking the database again. */
interface Lease {
  minute: number;
  left: number;
  /** How many to take next time: few at first, so that a quiet hour does not use up its day. */
  next: number;
  over: Window | undefined;
  taking: Promise<void> | undefined;
}

/** A lease is at most this share of a minute's limit: what a restart can lose. */
const LARGEST_LEASE = 64;

/** What an asker has in hand in one minute, charged already. */
interface Purse {
  left: number;
  used: number;
  /** In the minute before. */
  usedBefore: number;
  /** A block is being charged: whoever comes meanwhile with nothing in hand is charged for one request only. */
  taking: boolean;
}

/** What an asker takes at once is at most half of what they had in this minute, or an eighth of the minute before, and this share of the minute's limit. */
const LARGEST_BLOCK = 16;

interface Use {
  scope: Scope;
  in_minute: number;
  in_day: number;
}

/** What an enrolled device is charged for by itself. */
type DeviceCounter = 'retrievals' | 'decryptions' | 'readings';

/** Devices whose accounts are remembered. */
const REMEMBERED = 20_000;

interface DeviceAccounts {
  site: string;
  employee: string;
  app: string;
  accounts: Accounts;
}

/** One statement for all of an asker's own accounts: on the hot path each costs as much as what it does. */
const CHARGE = [1, 2].map(
  (rows) => `INSERT INTO budget_use (counter, scope, subject, minute, in_minute, day, in_day, alarmed_minute, alarmed_day)
  VALUES ${Array(rows).fill('(?, ?, ?, ?, ?, ?, ?, 0, 0)').join(', ')}
  ON CONFLICT (counter, scope, subject) DO UPDATE SET
    in_minute = CASE WHEN budget_use.minute = excluded.minute THEN budget_use.in_minute + excluded.in_minute ELSE excluded.in_minute END,
    in_day = CASE WHEN budget_use.day = excluded.day THEN budget_use.in_day + excluded.in_day ELSE excluded.in_day END,
    minute = excluded.minute, day = excluded.day
  RETURNING scope, in_minute, in_day`,
);

/**
 * How much anybody may ask for (design §6). The asker's own accounts are charged in the unit of work that the request needs anyway, so they are
 * exact across restarts and nodes and cost no commit of their own; shared accounts are leased from the database in blocks.
 *
 * Over its own account an asker is refused until the window ends, with one alarm per window. A device or person that goes over its *day* is frozen
 * until an operator says otherwise: the device where it used more than half of what its person used, else the person. Shared accounts slow everybody
 * to one request a minute and stop nobody. Who has no enrolled device can reach no account of one who has.
 */
export class Budgets {
  readonly #leases = new Map<string, Lease>();
  #purses = new Map<string, Purse>();
  #pursesBefore: ReadonlyMap<string, Purse> = new Map();
  /** Accounts of devices by their id, as they were made last: they are the same for hours. */
  readonly #devices: Record<DeviceCounter, Map<string, DeviceAccounts>> = {
    retrievals: new Map(),
    decryptions: new Map(),
    readings: new Map(),
  };
  #pursesOf = 0;

  constructor(
    private readonly storage: Storage,
    private readonly audit: AuditLog,
    private readonly clock: Clock,
    private readonly limits: BudgetLimits,
    private readonly sites: Sites,
  ) {}

  /** A request of an enrolled device. */
  ofDevice(counter: DeviceCounter, { id, employee, app, request }: DeviceActor): Spending {
    const event = {
      actor: { kind: 'device', id },
      request: request.id,
      personal: { network: request.network },
      device: id,
      employee,
    } as const;
    const site = this.sites.of(request.network);
    const known = this.#devices[counter].get(id);
    if (known?.site === site && known.employee === employee && known.app === app) return { ...known.accounts, event };
    const { device, person, app: ofApp, site: ofSite, appliance } = this.limits[counter];
    const accounts = accountsOf(
      counter,
      [
        { scope: 'device', subject: id, limit: device },
        { scope: 'person', subject: employee, limit: person },
      ],
      [
        { scope: 'app', subject: app, limit: ofApp },
        { scope: 'site', subject: site, limit: ofSite },
        { scope: 'appliance', subject: '', limit: appliance },
      ],
    );
    if (this.#devices[counter].size >= REMEMBERED) this.#devices[counter].clear();
    this.#devices[counter].set(id, { site, employee, app, accounts });
    return { ...accounts, event };
  }

  /** A mail with a code to an address, known or not. */
  ofChallenge(app: AppActor, address: string): Spending {
    const { mailbox, ...limits } = this.limits.challenges;
    const source = sourceOf(app.request.network);
    // Per source: whoever asks for somebody else's address from elsewhere does not use up that person's own tries.
    const subject = base64url(sha256(`${source} ${address}`));
    return this.#ofApp('challenges', app, { scope: 'mailbox', subject, limit: mailbox }, limits, TRIES);
  }

  /** @param employee undefined where the device is the first of a new person */
  ofEnrolment(app: AppActor, employee: string | undefined): Spending {
    const { person, ...limits } = this.limits.enrolments;
    return this.#ofApp('enrolments', app, employee ? { scope: 'person', subject: employee, limit: person } : undefined, limits, 1);
  }

  /** A try to sign in at the staff pages, whoever it is for: nobody is shut out by what a stranger tries elsewhere. */
  ofSignIn({ id, network }: Request): Spending {
    const { source, site, appliance } = this.limits.signIns;
    return {
      ...accountsOf(
        'signIns',
        [{ scope: 'source', subject: sourceOf(network), limit: source }],
        [
          { scope: 'site', subject: this.sites.of(network), limit: site },
          { scope: 'appliance', subject: '', limit: appliance },
        ],
      ),
      event: { actor: { kind: 'stranger' }, request: id, personal: { network } },
    };
  }

  /** A document that somebody sends in, from a device or at the staff pages. */
  ofDocument(by: DeviceActor | StaffActor): Spending {
    const { person, site, appliance } = this.limits.documents;
    const own: NamedDraw =
      by.kind === 'device'
        ? { scope: 'person', subject: by.employee, limit: person }
        : { scope: 'mailbox', subject: base64url(sha256(by.address)), limit: person };
    const shared: NamedDraw[] = [
      { scope: 'site', subject: this.sites.of(by.request.network), limit: site },
      { scope: 'appliance', subject: '', limit: appliance },
    ];
    return {
      ...accountsOf('documents', [own], shared),
      event: {
        actor: auditActor(by),
        request: by.request.id,
        personal: { network: by.request.network },
        ...(by.kind === 'device' ? { device: by.id, employee: by.employee } : {}),
      },
    };
  }

  #ofApp(
    counter: Counter,
    app: AppActor,
    narrow: NamedDraw | undefined,
    limits: Record<'source' | 'app' | 'site' | 'appliance', Limit>,
    tries: number,
  ): Spending {
    const site = this.sites.of(app.request.network);
    const rollout = this.#rollout(counter, site, tries);
    const source: NamedDraw = { scope: 'source', subject: sourceOf(app.request.network), limit: rollout ? rollout.limit : limits.source };
    const shared: NamedDraw[] = [
      { scope: 'app', subject: app.id, limit: limits.app },
      { scope: 'site', subject: site, limit: limits.site },
      { scope: 'appliance', subject: '', limit: limits.appliance },
    ];
    return {
      ...accountsOf(counter, [...(narrow ? [narrow] : []), source], rollout ? [rollout] : shared),
      event: { actor: auditActor(app), request: app.request.id, personal: { network: app.request.network } },
    };
  }

  /** The account of a roll-out that is on at this site and not used up. */
  #rollout(counter: Counter, site: string, tries: number): NamedDraw | undefined {
    const now = this.clock.now().getTime();
    const open = this.limits.rollouts.find(({ network, from, to }) => network === site && Date.parse(from) <= now && now < Date.parse(to));
    if (!open) return undefined;
    const draw: NamedDraw = {
      scope: 'rollout',
      subject: `${site} ${open.from}`,
      limit: { minute: open.count * tries, day: open.count * tries },
    };
    return this.#leases.get(keyOf(counter, draw))?.over ? undefined : draw;
  }

  /** Charges in a unit of its own: before a token or a mail is at work. Rejects with `budget-exceeded`. */
  async take(spending: Spending): Promise<void> {
    await this.within(spending, (charge) => this.storage.write(charge));
  }

  /**
   * Does `act`, which charges within a unit of its own; over budget that unit is undone, the alarm is written, and the caller hears `budget-exceeded`
   * with the seconds until the window ends.
   */
  async within<T>(spending: Spending, act: (charge: (unit: Unit) => Promise<void>) => Promise<T>): Promise<T> {
    const now = this.clock.now().getTime();
    let slow: OverBudget | undefined;
    const leased: Lease[] = [];
    for (const draw of spending.shared) {
      const lease = this.#leaseInHand(draw, now) ?? (await this.#lease(spending, draw, now));
      if (lease.over) slow = new OverBudget(draw, 'minute', now);
      else leased.push(lease);
    }
    const purse = this.#purse(spending.asker, now);
    let block = 0;
    let granted = 1;
    try {
      const done = await act(async (unit) => {
        if (slow && purse.used > 0) throw slow;
        if (purse.left > 0) purse.left--;
        else {
          block = slow ? 1 : blockOf(purse, spending);
          if (block > 1) purse.taking = true;
          granted = await this.#charge(unit, spending, block, slow, now);
        }
        purse.used++;
      });
      // In hand only once the unit is durable.
      purse.left += granted - 1;
      return done;
    } catch (error) {
      // What one asker is refused must not use up what others share.
      if (error instanceof OverBudget) for (const lease of leased) lease.left++;
      if (error instanceof OverBudget && error !== slow) await this.#alarm(spending, error.draw, error.window, now);
      throw error;
    } finally {
      if (block > 1) purse.taking = false;
    }
  }

  /** What this asker has in hand in this minute. */
  #purse(asker: string, now: number): Purse {
    const minute = Math.floor(now / MINUTE);
    if (minute !== this.#pursesOf) {
      this.#pursesBefore = minute === this.#pursesOf + 1 ? this.#purses : new Map();
      this.#purses = new Map();
      this.#pursesOf = minute;
    }
    let purse = this.#purses.get(asker);
    if (!purse) {
      purse = { left: 0, used: 0, usedBefore: this.#pursesBefore.get(asker)?.used ?? 0, taking: false };
      this.#purses.set(asker, purse);
    }
    return purse;
  }

  /** Resolves with how many of the block may be had: one at least. */
  async #charge(unit: Unit, { counter, own }: Spending, block: number, slow: OverBudget | undefined, now: number): Promise<number> {
    const uses = await charge(unit, counter, own, block, now);
    let granted = block;
    for (const [index, draw] of own.entries()) {
      const use = useOf(uses, draw);
      const beyond = { minute: use.in_minute - draw.limit.minute, day: draw.limit.day === undefined ? 0 : use.in_day - draw.limit.day };
      if (beyond.minute >= block) throw new OverBudget(draw, 'minute', now);
      if (beyond.day >= block) throw new OverBudget(draw, 'day', now);
      granted = Math.min(granted, block - Math.max(0, beyond.minute, beyond.day));
      if (index === 0 && slow && use.in_minute > block) throw slow;
    }
    return granted;
  }

  /** As `#lease`, where nothing must be asked of the database: nearly always. */
  #leaseInHand(draw: Draw, now: number): Lease | undefined {
    const lease = this.#leases.get(draw.key);
    if (!lease || lease.minute !== windowOf(draw, now, MINUTE)) return undefined;
    if (lease.over) return lease;
    if (lease.left === 0) return undefined;
    lease.left--;
    return lease;
  }

  /** Takes one of this process's part of a shared account, unless that is over. */
  async #lease(spending: Spending, draw: Draw, now: number): Promise<Lease> {
    const { key } = draw;
    const { minute } = windows(draw, now);
    let lease = this.#leases.get(key);
    if (lease?.minute !== minute) {
      lease = { minute, left: 0, next: 1, over: undefined, taking: undefined };
      this.#leases.set(key, lease);
    }
    const mine = lease;
    while (!mine.over && mine.left === 0) {
      mine.taking ??= this.#take(spending, draw, mine, now).finally(() => {
        mine.taking = undefined;
      });
      await mine.taking;
    }
    if (!mine.over) mine.left--;
    return mine;
  }

  async #take(spending: Spending, draw: Draw, lease: Lease, now: number): Promise<void> {
    const { counter } = spending;
    const { limit } = draw;
    const block = Math.min(lease.next, Math.ceil(limit.minute / LARGEST_LEASE));
    const use = useOf(await this.storage.write((unit) => charge(unit, counter, [draw], block, now)), draw);
    const beyond = { minute: use.in_minute - limit.minute, day: limit.day === undefined ? 0 : use.in_day - limit.day };
    lease.next = block * 2;
    lease.left = Math.max(0, block - Math.max(0, beyond.minute, beyond.day));
    if (lease.left > 0) return;
    lease.over = beyond.day > 0 ? 'day' : 'minute';
    await this.#alarm(spending, draw, lease.over, now);
  }

  /** One entry for each account and window, by whichever node comes first. */
  async #alarm(spending: Spending, draw: Draw, window: Window, now: number): Promise<void> {
    const { counter, event } = spending;
    const { scope, subject } = draw;
    const column = window === 'minute' ? 'alarmed_minute' : 'alarmed_day';
    const current = windows(draw, now)[window] + 1; // 0 in the table says: never
    await this.storage.write(async (unit) => {
      const first = await unit.run(
        `UPDATE budget_use SET ${column} = ? WHERE counter = ? AND scope = ? AND subject = ? AND ${column} < ?`,
        [current, counter, scope, subject, current],
      );
      if (first === 0) return;
      const facts = { counter, scope, window, limit: (window === 'minute' ? draw.limit.minute : draw.limit.day) ?? 0 };
      await this.audit.append(unit, { ...event, action: 'budget.exceed', outcome: 'refused', reason: 'budget-exceeded', facts });
      if (window === 'day' && (counter === 'retrievals' || counter === 'decryptions')) await this.#freeze(unit, spending, draw, now);
    });
  }

  /** The smallest scope that explains the excess. */
  async #freeze(unit: Unit, { counter, event }: Spending, { scope, subject }: Draw, now: number): Promise<void> {
    if (scope !== 'device' && scope !== 'person') return;
    const frozen = scope === 'person' ? await explains(unit, counter, subject, Math.floor(now / DAY)) : { scope, subject };
    const added = await unit.run('INSERT INTO budget_freezes (scope, subject, counter, since) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING', [
      frozen.scope,
      frozen.subject,
      counter,
      now,
    ]);
    if (added === 0) return;
    await this.audit.append(unit, {
      action: 'budget.freeze',
      outcome: 'done',
      actor: { kind: 'system' },
      ...(frozen.scope === 'device' ? { device: frozen.subject } : {}),
      ...(event.employee ? { employee: event.employee } : {}),
      request: event.request,
      facts: { counter, scope: frozen.scope },
    });
  }

  /** Lets a frozen device or person go on, with their accounts empty. Rejects with `freeze-unknown`. */
  async unfreeze(scope: 'device' | 'person', subject: string, by: AuditActor): Promise<void> {
    await this.storage.write(async (unit) => {
      if ((await unit.run('DELETE FROM budget_freezes WHERE scope = ? AND subject = ?', [scope, subject])) === 0)
        throw new Fault('not-found', 'freeze-unknown', `no budget has frozen this ${scope}`);
      if (scope === 'device')
        // What the device used is forgiven its person too, who would be the next to be over.
        await unit.run(
          `UPDATE budget_use SET in_day = in_day - (SELECT d.in_day FROM budget_use d WHERE d.counter = budget_use.counter AND d.scope = 'device' AND d.subject = ? AND d.day = budget_use.day)
           WHERE scope = 'person' AND subject = (SELECT employee FROM devices WHERE id = ?)
           AND EXISTS (SELECT 1 FROM budget_use d WHERE d.counter = budget_use.counter AND d.scope = 'device' AND d.subject = ? AND d.day = budget_use.day)`,
          [subject, subject, subject],
        );
      await unit.run('DELETE FROM budget_use WHERE scope = ? AND subject = ?', [scope, subject]);
      await this.audit.append(unit, {
        action: 'budget.unfreeze',
        outcome: 'done',
        actor: by,
        ...(scope === 'device' ? { device: subject } : { employee: subject }),
        facts: { scope },
      });
    });
  }

  /** Who is frozen, longest first. */
  async frozen(): Promise<{ scope: string; subject: string; counter: string; since: number }[]> {
    return this.storage.all('SELECT scope, subject, counter, since FROM budget_freezes ORDER BY since');
  }
}

/** The device that used more than half of what its person used this day, else the person. */
async function explains(
  unit: Unit,
  counter: Counter,
  employee: string,
  day: number,
): Promise<{ scope: 'device' | 'person'; subject: string }> {
  const use = "SELECT subject, in_day FROM budget_use WHERE counter = ? AND scope = 'device' AND day = ?";
  const top = await unit.one<{ subject: string; in_day: number }>(
    `${use} AND subject IN (SELECT id FROM devices WHERE employee = ?) ORDER BY in_day DESC LIMIT 1`,
    [counter, day, employee],
  );
  const whole = await unit.one<{ in_day: number }>(
    "SELECT in_day FROM budget_use WHERE counter = ? AND scope = 'person' AND subject = ? AND day = ?",
    [counter, employee, day],
  );
  return top && whole && top.in_day * 2 > whole.in_day ? { scope: 'device', subject: top.subject } : { scope: 'person', subject: employee };
}

/** How many requests to charge at once. */
function blockOf({ used, usedBefore, taking }: Purse, { own }: Spending): number {
  if (taking) return 1;
  const smallest = Math.min(...own.map(({ limit }) => limit.minute));
  return Math.max(1, Math.min(Math.floor(Math.max(used, usedBefore / 4) / 2), Math.floor(smallest / LARGEST_BLOCK)));
}

type NamedDraw = Omit<Draw, 'key'>;
const keyOf = (counter: Counter, { scope, subject }: NamedDraw): string => `${counter} ${scope} ${subject}`;

function accountsOf(counter: Counter, own: readonly NamedDraw[], shared: readonly NamedDraw[]): Accounts {
  const named = (draw: NamedDraw): Draw => ({ ...draw, key: keyOf(counter, draw) });
  const mine = own.map(named);
  return { counter, own: mine, shared: shared.map(named), asker: mine.map(({ key }) => key).join(' ') };
}

/** A roll-out is one window from its beginning to its end. */
const windowOf = ({ scope }: Pick<Draw, 'scope'>, now: number, length: number): number =>
  scope === 'rollout' ? 0 : Math.floor(now / length);
const windows = (draw: Draw, now: number) => ({ minute: windowOf(draw, now, MINUTE), day: windowOf(draw, now, DAY) });

async function charge(unit: Unit, counter: Counter, draws: readonly Draw[], count: number, now: number): Promise<Use[]> {
  const statement = CHARGE[draws.length - 1];
  if (!statement) throw new Error(`no request is charged to ${draws.length} accounts of its own`);
  const values = draws.flatMap((draw) => {
    const { minute, day } = windows(draw, now);
    return [counter, draw.scope, draw.subject, minute, count, day, count];
  });
  return unit.all<Use>(statement, values);
}

function useOf(uses: readonly Use[], { scope }: Draw): Use {
  const use = uses.find((one) => one.scope === scope);
  if (!use) throw new Error('RETURNING gives each row that was written');
  return use;
}
