import { Body, Controller, Get, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Contract, type DeviceActor, ForDevices, REFUSALS, Who } from '../access/index.js';
import { parsed, parsedJson, shapes } from '../foundation/index.js';
import { openCase, openRequest, recovered } from './recoveries-shapes.js';
import { RecoveryCases } from './recovery-cases.js';

/** Recovery cases whose keys are sealed to the device that asks. */
@ForDevices()
@Controller('v1/recoveries')
export class RecoveriesController {
  constructor(@Inject(RecoveryCases) private readonly cases: RecoveryCases) {}

  @Get()
  @Contract({
    id: 'listRecoveries',
    summary: 'Recovery cases for this device whose time is not over',
    answers: { 200: { description: 'Newest first', json: z.array(openCase) } },
    problems: { 403: ['no-recovery-agents'], 503: REFUSALS.token[503] },
  })
  async list(@Who() actor: DeviceActor): Promise<z.input<typeof openCase>[]> {
    return (await this.cases.ofDevice(actor)).map(({ case: id, expires, ...rest }) => ({
      id,
      expiresAt: new Date(expires).toISOString(),
      ...rest,
    }));
  }

  @Post(':id/openings')
  @HttpCode(200)
  @Contract({
    id: 'openRecovery',
    summary: 'Has the token seal one key of an approved case, or the content key of its one mail, to this device; an entry each time',
    path: { id: shapes.id },
    body: openRequest,
    answers: { 200: { description: 'What was recovered', json: recovered } },
    problems: {
      ...REFUSALS.token,
      ...REFUSALS.budget,
      503: [...REFUSALS.token[503], ...REFUSALS.log[503]],
      403: [
        'recovery-not-approved',
        'recovery-foreign',
        'recovery-ended',
        'no-recovery-agents',
        'record-forged',
        'record-stale',
        'blob-forged',
        'key-not-deliverable',
      ],
      404: ['recovery-unknown', 'key-unknown'],
      409: ['blob-corrupt', 'token-call-refused'],
      410: ['recovery-expired'],
    },
  })
  async open(
    @Who() actor: DeviceActor,
    @Param('id') id: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof recovered>> {
    reply.header('cache-control', 'no-store');
    const { key, mail } = parsedJson(openRequest, body);
    const { receipt, ...given } = await this.cases.open(actor, parsed(shapes.id, id, 'the case id'), key, mail);
    return 'delivery' in given
      ? { delivery: given.delivery.toString('base64'), wrapped: null, hash: null, receipt }
      : { delivery: null, wrapped: given.wrapped.toString('base64'), hash: given.hash, receipt };
  }
}
