import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Contract, On } from '../access/index.js';
import { Health, healthReport } from './health.js';

const liveness = z.object({ status: z.literal('up') }).meta({ id: 'Liveness' });

@On('operation')
@Controller()
export class OperationController {
  constructor(@Inject(Health) private readonly health: Health) {}

  @Get('health/live')
  @Contract({ id: 'live', summary: 'Whether the process answers at all', answers: { 200: { description: 'It does', json: liveness } } })
  live(): z.input<typeof liveness> {
    return { status: 'up' };
  }

  @Get('health/ready')
  @Contract({
    id: 'ready',
    summary: 'Whether keys can be handed out',
    answers: {
      200: { description: 'They can', json: healthReport },
      503: { description: 'They cannot; the report says why', json: healthReport },
    },
  })
  async ready(@Res({ passthrough: true }) reply: FastifyReply): Promise<z.input<typeof healthReport>> {
    const report = await this.health.report();
    reply.status(report.status === 'ready' ? 200 : 503);
    return report;
  }

  @Get('metrics')
  @Contract({
    id: 'metrics',
    summary: 'Figures for Prometheus',
    answers: { 200: { description: 'Exposition format', type: 'text/plain' } },
  })
  async metrics(@Res() reply: FastifyReply) {
    return reply.type(this.health.contentType).send(await this.health.metrics());
  }
}
