import { Body, Controller, Get, Inject, Param, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Contract, type GuardedRequest, On, provenance, REFUSALS } from '../../access/index.js';
import { WitnessedLogs } from './witnessed-logs.js';

const log = z.string().meta({ description: 'SHA-256 of the log’s name, hexadecimal' });

/** https://c2sp.org/tlog-witness: nobody signs in here, a head speaks for itself by its log's signature. */
@On('client')
@Controller('v1/witness')
export class WitnessingController {
  constructor(@Inject(WitnessedLogs) private readonly logs: WitnessedLogs) {}

  @Post('add-checkpoint')
  @Contract({
    id: 'addCheckpoint',
    summary: 'Cosigns a head of another appliance’s log that extends all that was seen of it (C2SP tlog-witness)',
    text: 'The size that the proof leads from, the proof, an empty line, the checkpoint',
    answers: {
      200: { description: 'A signature line: an Ed25519 cosignature (C2SP tlog-cosignature)', type: 'text/plain' },
      409: { description: 'The size of the last head cosigned: the proof has to lead from there', type: 'text/x.tlog.size' },
    },
    problems: {
      ...REFUSALS.storage,
      400: ['submission-malformed'],
      403: ['checkpoint-unsigned'],
      404: ['log-unknown'],
      422: ['proof-wrong'],
      503: [
        ...REFUSALS.storage[503],
        ...REFUSALS.token[503],
        'audit-unavailable',
        'audit-rolled-back',
        'audit-forked',
        'audit-token-older',
        'cosigning-unable',
      ],
    },
  })
  async add(@Body() body: unknown, @Req() request: GuardedRequest, @Res() reply: FastifyReply) {
    const answer = await this.logs.add(Buffer.isBuffer(body) ? body : Buffer.alloc(0), provenance(request));
    void reply.header('cache-control', 'no-store');
    return 'cosigned' in answer
      ? reply.type('text/plain; charset=utf-8').status(200).send(answer.cosigned)
      : reply.type('text/x.tlog.size').status(409).send(`${answer.known}\n`);
  }

  @Get(':log/checkpoint')
  @Contract({
    id: 'getWitnessedCheckpoint',
    summary: 'The last head of another appliance’s log that was cosigned here',
    path: { log },
    answers: { 200: { description: 'A signed note, with its log’s signature and ours', type: 'text/plain' } },
    problems: { ...REFUSALS.storage, 404: ['log-unknown'] },
  })
  async head(@Param('log') id: string, @Res() reply: FastifyReply) {
    return reply
      .type('text/plain; charset=utf-8')
      .header('cache-control', 'no-store')
      .send(await this.logs.head(id));
  }
}
