import { userInfo } from 'node:os';
import { z } from 'zod';
import type { AdministratorActor } from '../access/index.js';
import type { ActRequest, Quorum } from '../administration/index.js';
import { type AuditActor, base64url, Fault, isFault, type Json, parsed, type Role } from '../foundation/index.js';
import type { House } from '../house.js';
import { type Act, act, type Danger, type RequestActName } from './act.js';
import { ACTS } from './acts.js';

/** What became of an act that was asked for: done, or only filed. */
export type Outcome = { value: unknown } | { request: ActRequest };

/** Whoever may enter the home folder: known by a Unix account, and by nothing else. */
export interface Operator {
  readonly kind: 'operator';
  readonly id: string;
}
type Requester = ActRequest['requester'];

export const operator = (): Operator => ({ kind: 'operator', id: userInfo().username });

/** Where acts are asked for, by the operator and by administrators alike: checks who may, and whether one person is enough. */
export class ActDesk {
  constructor(private readonly house: House) {}

  get requests(): House['approvals'] {
    return this.house.approvals;
  }

  /**
   * Has an act done or, where it takes others, files a request. Rejects with `act-unknown`, `body-malformed`, `role-missing`, `proof-needed`, or with
   * the act's own refusal.
   */
  async ask(name: string, args: unknown, by: Operator | AdministratorActor): Promise<Outcome> {
    const { administrators, approvals, signIn, storage, audit } = this.house;
    const row = rowOf(name);
    const given = row.from && by.kind === 'administrator' ? { ...(args as object), from: by.request.network } : args;
    const checked = parsed(row.args, given, 'the arguments');
    if (by.kind === 'administrator') requireRole(row, by.role);
    const danger = typeof row.danger === 'function' ? row.danger(checked) : row.danger;
    const actor: AuditActor & { id: string } = { kind: by.kind, id: by.id };
    if (!danger) return { value: await row.perform(this.house, checked, actor) };
    if (by.kind === 'administrator') signIn.requireFresh(by);
    if (await administrators.bootstrap.isOver())
      return { request: await approvals.file(name, given as Json, quorum(danger, by.kind), { kind: by.kind, id: by.id }) }; // it came as JSON
    await storage.write((unit) => audit.append(unit, { action: 'bootstrap.act', outcome: 'done', actor, facts: { act: name } }));
    return { value: await row.perform(this.house, checked, actor) };
  }

  /** Approves; the last approval has it done unless its result is for the one who asked. */
  async approve(actor: AdministratorActor, id: string, response: Parameters<House['approvals']['approve']>[2]): Promise<ActRequest> {
    const request = await this.house.approvals.approve(actor, id, response);
    if (request.state !== 'approved' || rowOf(request.act).collected) return request;
    // How the act ended stands in the request; the approval is given either way.
    await this.#perform(id).catch((error: unknown) => {
      if (!isFault(error)) throw error;
    });
    return this.house.approvals.find(id);
  }

  /** Performs an approved request for the one who asked. Rejects with `not-the-requester`, or as `Approvals.perform`. */
  async perform(id: string, { kind, id: by }: Requester): Promise<unknown> {
    const { requester } = await this.house.approvals.find(id);
    if (requester.kind !== kind || requester.id !== by)
      throw new Fault('forbidden', 'not-the-requester', 'whoever asked for it has it done');
    return this.#perform(id);
  }

  async performFor(actor: AdministratorActor, id: string): Promise<unknown> {
    this.house.signIn.requireFresh(actor);
    return this.perform(id, { kind: 'administrator', id: actor.id });
  }

  /** At start, once what a crash cut was settled: what is approved and was not begun is done now. */
  async resume(): Promise<void> {
    await this.house.approvals.settle();
    for (const { id, act: name, state } of await this.house.approvals.list())
      if (state === 'approved' && Object.hasOwn(ACTS, name) && !rowOf(name).collected)
        await this.#perform(id).catch((error: unknown) => {
          if (!isFault(error)) throw error;
        });
  }

  #perform(id: string): Promise<unknown> {
    return this.house.approvals.perform(id, async ({ act: name, args, requester }) => {
      const row = rowOf(name);
      // Whoever may not ask for it any more has not asked.
      if (requester.kind === 'administrator') requireRole(row, (await this.house.administrators.active(requester.id)).role);
      return row.perform(this.house, parsed(row.args, args, 'the arguments'), requester);
    });
  }
}

function quorum(danger: Danger, by: 'operator' | 'administrator'): Quorum {
  return danger === 'two-persons' ? { role: 'security-officer', needed: by === 'administrator' ? 1 : 2 } : danger;
}

/** What a request looks like to people and programs. */
export const shown = (request: ActRequest) => ({
  ...{ id: request.id, act: request.act, args: request.args, state: request.state, ...(request.reason ? { reason: request.reason } : {}) },
  ...{ requester: request.requester, role: request.role, needed: request.needed, hash: base64url(request.hash) },
  approvals: request.approvals.map(({ administrator, time }) => ({ administrator, at: new Date(time).toISOString() })),
  createdAt: new Date(request.created).toISOString(),
  expiresAt: new Date(request.expires).toISOString(),
});

const id = z.string().max(64);
/** The operator's own; administrators have routes for them. */
const REQUEST_ACTS = {
  'request.list': act({ args: z.strictObject({}), roles: [], perform: async (house) => (await house.approvals.list()).map(shown) }),
  'request.show': act({
    args: z.strictObject({ id }),
    roles: [],
    perform: async (house, args) => shown(await house.approvals.find(args.id)),
  }),
  'request.perform': act({
    args: z.strictObject({ id }),
    roles: [],
    perform: (house, args, by) => new ActDesk(house).perform(args.id, { kind: 'operator', id: by.id ?? '' }),
  }),
  'request.deny': act({ args: z.strictObject({ id }), roles: [], perform: (house, args, by) => house.approvals.deny(args.id, by) }),
} satisfies Record<RequestActName, unknown>;

const ALL: Record<string, unknown> = { ...ACTS, ...REQUEST_ACTS };

function requireRole({ roles }: Act, role: Role | null): void {
  if (role && roles.includes(role)) return;
  const whom = roles.length > 0 ? `for ${roles.join(' or ')} only` : 'asked for at the command line only';
  throw new Fault('forbidden', 'role-missing', `this is ${whom}`);
}

function rowOf(name: string): Act {
  if (!Object.hasOwn(ALL, name))
    throw new Fault('not-found', 'act-unknown', `the running appliance does not know "${name}"; is it of the same version?`);
  return ALL[name] as Act; // each row's own `perform` gets what its own shape made
}
