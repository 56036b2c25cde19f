import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { type AdministratorActor, Contract, ForAdministrators, Who } from '../access/index.js';
import { assertion } from '../administration/index.js';
import { parsed, parsedJson, ROLES, shapes } from '../foundation/index.js';
import { ActDesk, shown } from './act-desk.js';

const time = z.string().meta({ format: 'date-time' });
const request = z
  .object({
    id: z.string(),
    act: z.string(),
    args: z.unknown(),
    state: z.enum(['open', 'approved', 'expired', 'spent', 'done', 'failed', 'denied', 'interrupted']),
    reason: z.string().optional().meta({ description: 'Code of what its act ended in.' }),
    requester: z.object({ kind: z.enum(['operator', 'administrator']), id: z.string() }),
    role: z.enum(ROLES).meta({ description: 'Whose approval it takes.' }),
    needed: z.int().min(1),
    hash: z.string().meta({ description: 'What approvals sign: docs/formats/approvals.md.' }),
    approvals: z.array(z.object({ administrator: z.string(), at: time })),
    createdAt: time,
    expiresAt: time,
  })
  .meta({ id: 'ActRequest' });
const args = z.strictObject({ args: z.record(z.string(), z.unknown()) }).meta({ id: 'ActArguments' });
const outcome = z.object({ value: z.unknown() }).meta({ id: 'ActOutcome' });
const approval = z.strictObject({ response: assertion }).meta({ id: 'Approval' });
const options = z
  .looseObject({ challenge: z.string() })
  .meta({ id: 'ApprovalOptions', description: 'For PublicKeyCredential.parseRequestOptionsFromJSON' });

const UNKNOWN = ['request-unknown'];
const NOT_NOW = ['request-closed', 'request-expired', 'approved-already'];
const NOT_YOU = ['requester-approves', 'request-changed'];

/** What administrators have done, and what of it others approve. */
@ForAdministrators()
@Controller('v1/admin')
export class ActsController {
  constructor(@Inject(ActDesk) private readonly desk: ActDesk) {}

  @Post('acts/:act')
  @HttpCode(200)
  @Contract({
    id: 'act',
    summary: 'Has an act of the operator’s table done, or files a request where it takes others',
    path: { act: z.string() },
    body: args,
    answers: { 200: { description: 'Done', json: outcome }, 202: { description: 'Filed; nothing was done yet', json: request } },
    problems: { 400: ['body-malformed'], 401: ['proof-needed'], 404: ['act-unknown'] },
    more: [400, 403, 404, 409, 503],
  })
  async act(
    @Who() actor: AdministratorActor,
    @Param('act') act: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof outcome> | z.input<typeof request>> {
    reply.header('cache-control', 'no-store');
    const result = await this.desk.ask(act, parsedJson(args, body).args, actor);
    if (!('request' in result)) return { value: result.value ?? null };
    reply.status(202);
    return shown(result.request);
  }

  @Get('requests')
  @Contract({
    id: 'listRequests',
    summary: 'Requests, the newest 200',
    answers: { 200: { description: 'Newest first', json: z.array(request) } },
  })
  async list(): Promise<z.input<typeof request>[]> {
    return (await this.desk.requests.list()).map(shown);
  }

  @Get('requests/:id')
  @Contract({
    id: 'showRequest',
    summary: 'One request',
    path: { id: shapes.id },
    answers: { 200: { description: 'As it stands', json: request } },
    problems: { 403: ['request-changed'], 404: UNKNOWN },
  })
  async show(@Param('id') id: string): Promise<z.input<typeof request>> {
    return shown(await this.desk.requests.find(requestId(id)));
  }

  @Post('requests/:id/approvals/options')
  @HttpCode(200)
  @Contract({
    id: 'beginApproval',
    summary: 'What a passkey signs to approve this very request',
    path: { id: shapes.id },
    answers: { 200: { description: 'Options for navigator.credentials.get; their challenge is made of the hash', json: options } },
    problems: { 403: NOT_YOU, 404: UNKNOWN, 409: NOT_NOW },
  })
  beginApproval(@Who() actor: AdministratorActor, @Param('id') id: string) {
    return this.desk.requests.options(actor, requestId(id));
  }

  @Post('requests/:id/approvals')
  @HttpCode(200)
  @Contract({
    id: 'approve',
    summary: 'Approves; the last approval has it done, unless the result is for the one who asked',
    path: { id: shapes.id },
    body: approval,
    answers: { 200: { description: 'The request as it stands then', json: request } },
    problems: { 401: ['challenge-unknown', 'passkey-refused'], 403: [...NOT_YOU, 'passkey-cloned'], 404: UNKNOWN, 409: NOT_NOW },
  })
  async approve(@Who() actor: AdministratorActor, @Param('id') id: string, @Body() body: unknown): Promise<z.input<typeof request>> {
    return shown(await this.desk.approve(actor, requestId(id), parsedJson(approval, body).response));
  }

  @Post('requests/:id/performance')
  @HttpCode(200)
  @Contract({
    id: 'performRequest',
    summary: 'Has an approved request done, once, for the one who asked',
    path: { id: shapes.id },
    answers: { 200: { description: 'Done', json: outcome } },
    problems: {
      401: ['proof-needed'],
      403: ['not-the-requester', 'approvals-missing', 'request-changed'],
      404: UNKNOWN,
      409: ['request-closed', 'request-expired'],
    },
    more: [400, 403, 404, 409, 503],
  })
  async perform(
    @Who() actor: AdministratorActor,
    @Param('id') id: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof outcome>> {
    reply.header('cache-control', 'no-store');
    return { value: (await this.desk.performFor(actor, requestId(id))) ?? null };
  }

  @Delete('requests/:id')
  @HttpCode(204)
  @Contract({
    id: 'denyRequest',
    summary: 'Ends a request before it is done: by whoever asked, or might approve',
    path: { id: shapes.id },
    answers: { 204: { description: 'Nothing of it will be done' } },
    problems: { 403: ['request-changed'], 404: UNKNOWN, 409: ['request-closed'] },
  })
  async deny(@Who() actor: AdministratorActor, @Param('id') id: string): Promise<void> {
    await this.desk.requests.deny(requestId(id), { kind: 'administrator', id: actor.id, role: actor.role });
  }
}

const requestId = (text: string): string => parsed(shapes.id, text, 'the request id');
