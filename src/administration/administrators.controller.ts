import { Controller, Delete, Get, HttpCode, Inject, Param } from '@nestjs/common';
import { z } from 'zod';
import { type AdministratorActor, Contract, ForAdministrators, Sessions, Who } from '../access/index.js';
import { Fault, parsed, ROLES, shapes } from '../foundation/index.js';
import { Administrators } from './administrators.js';
import { Passkeys } from './passkeys.js';

const time = z.string().meta({ format: 'date-time' });
const administrator = z
  .object({
    id: z.string(),
    name: z.string(),
    address: z.string(),
    role: z.enum(ROLES).nullable(),
    createdAt: time,
    passkeys: z.int().meta({ description: 'How many; two are asked for, so that losing one locks nobody out.' }),
  })
  .meta({ id: 'Administrator' });
const session = z
  .object({
    id: z.string(),
    administrator: z.string(),
    network: z.string(),
    beganAt: time,
    usedAt: time,
    endsAt: time,
    current: z.boolean(),
  })
  .meta({ id: 'AdministratorSession' });

/** Administrators see one another: who there is, and who is signed in. */
@ForAdministrators()
@Controller('v1/admin')
export class AdministratorsController {
  constructor(
    @Inject(Administrators) private readonly administrators: Administrators,
    @Inject(Passkeys) private readonly passkeys: Passkeys,
    @Inject(Sessions) private readonly sessions: Sessions,
  ) {}

  @Get('administrators')
  @Contract({
    id: 'listAdministrators',
    summary: 'All administrators',
    answers: { 200: { description: 'Oldest first', json: z.array(administrator) } },
  })
  async list(): Promise<z.input<typeof administrator>[]> {
    const all = await this.administrators.list();
    return Promise.all(
      all.map(async ({ id, name, address, role, created }) => ({
        ...{ id, name, address, role, createdAt: iso(created) },
        passkeys: (await this.passkeys.of(id)).length,
      })),
    );
  }

  @Get('sessions')
  @Contract({
    id: 'listAdministratorSessions',
    summary: 'One’s own sessions; to a security officer, everybody’s',
    answers: { 200: { description: 'Newest first', json: z.array(session) } },
  })
  async listSessions(@Who() actor: AdministratorActor): Promise<z.input<typeof session>[]> {
    const sessions = await this.sessions.list('administration', scope(actor));
    return sessions.map(({ id, subject, network, began, used, ends }) => ({
      ...{ id, administrator: subject, network },
      ...{ beganAt: iso(began), usedAt: iso(used), endsAt: iso(ends), current: id === actor.session.id },
    }));
  }

  @Delete('sessions/:id')
  @HttpCode(204)
  @Contract({
    id: 'endAdministratorSession',
    summary: 'Ends a session: one’s own, or as a security officer anybody’s',
    path: { id: shapes.id },
    answers: { 204: { description: 'It is over' } },
    problems: { 404: ['session-unknown'] },
  })
  async endSession(@Who() actor: AdministratorActor, @Param('id') id: string): Promise<void> {
    const wanted = parsed(shapes.id, id, 'the session id');
    const mine = await this.sessions.list('administration', scope(actor));
    if (!mine.some((one) => one.id === wanted)) throw new Fault('not-found', 'session-unknown', 'there is no such session');
    await this.sessions.endNow(wanted, { kind: 'administrator', id: actor.id });
  }
}

const scope = ({ role, id }: AdministratorActor): string | undefined => (role === 'security-officer' ? undefined : id);
const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();
