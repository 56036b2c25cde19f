import { Controller, Get, Inject, Param, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import {
  type AdministratorActor,
  auditActor,
  Contract,
  ForAdministrators,
  ForDevicesAndAdministrators,
  REFUSALS,
  Who,
} from '../access/index.js';
import { parseTileName, TILE_WIDTH } from '../codec/merkle/index.js';
import { Fault } from '../foundation/index.js';
import { LogBook } from './log-book.js';

const level = z.string().meta({ description: '0 for leaf hashes; above, hashes of full tiles below' });
const name = z
  .string()
  .meta({ description: 'Index of the tile in groups of three digits (x001/x234/067), and `.p/W` where it is partial' });

/** C2SP tlog-tiles under `/v1/audit`. Hashes are for everybody who is known here, so that each can check what they are shown; entries are for auditors. */
@Controller('v1/audit')
export class AuditLogController {
  constructor(@Inject(LogBook) private readonly book: LogBook) {}

  @ForDevicesAndAdministrators('auditor')
  @Get('checkpoint')
  @Contract({
    id: 'getCheckpoint',
    summary: 'The last signed head of the log (C2SP checkpoint)',
    answers: { 200: { description: 'A signed note', type: 'text/plain' } },
    problems: { ...REFUSALS.storage, 404: ['checkpoint-missing'] },
  })
  async checkpoint(@Res() reply: FastifyReply) {
    return reply
      .type('text/plain; charset=utf-8')
      .header('cache-control', 'no-store')
      .send(await this.book.checkpoint());
  }

  @ForAdministrators('auditor')
  @Get('tile/entries/*')
  @Contract({
    id: 'getEntryBundle',
    summary: 'Up to 256 entries (C2SP entry bundle); reading them is an entry too',
    path: { name },
    answers: { 200: { description: 'Entries, each after its length in two bytes', type: 'application/octet-stream' } },
    problems: { ...REFUSALS.storage, 404: ['tile-unknown', 'entries-pruned'] },
  })
  async bundle(@Who() actor: AdministratorActor, @Param('*') given: unknown, @Res() reply: FastifyReply) {
    const bundle = await this.book.bundle(tileOf(given), { actor: auditActor(actor), request: actor.request });
    return reply.type('application/octet-stream').header('cache-control', 'no-store').send(Buffer.from(bundle));
  }

  @ForDevicesAndAdministrators('auditor')
  @Get('tile/:level/*')
  @Contract({
    id: 'getTile',
    summary: 'Up to 256 hashes of the log’s tree (C2SP tile)',
    path: { level, name },
    answers: { 200: { description: 'Hashes, 32 bytes each', type: 'application/octet-stream' } },
    problems: { ...REFUSALS.storage, 404: ['tile-unknown'] },
  })
  async tile(@Param('level') height: string, @Param('*') given: unknown, @Res() reply: FastifyReply) {
    const tile = tileOf(given);
    if (!/^(0|[1-9]|[1-5]\d|6[0-3])$/.test(height)) throw unknown();
    const hashes = await this.book.tile({ level: Number(height), ...tile });
    const age = tile.width === TILE_WIDTH ? 'max-age=31536000, immutable' : 'max-age=60';
    return reply.type('application/octet-stream').header('cache-control', age).send(hashes);
  }
}

const unknown = () => new Fault('not-found', 'tile-unknown', 'the log has no such tile');

function tileOf(given: unknown) {
  const tile = parseTileName(Array.isArray(given) ? given.join('/') : String(given));
  if (!tile) throw unknown();
  return tile;
}
