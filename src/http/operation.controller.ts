import { Controller, Get, Inject, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { On } from '../access/index.js';
import { Health } from './health.js';

@On('operation')
@Controller()
export class OperationController {
  constructor(@Inject(Health) private readonly health: Health) {}

  @Get('health/live')
  live() {
    return { status: 'up' };
  }

  @Get('health/ready')
  async ready(@Res({ passthrough: true }) reply: FastifyReply) {
    const report = await this.health.report();
    reply.status(report.status === 'ready' ? 200 : 503);
    return report;
  }

  @Get('metrics')
  async metrics(@Res() reply: FastifyReply) {
    return reply.type(this.health.contentType).send(await this.health.metrics());
  }
}
