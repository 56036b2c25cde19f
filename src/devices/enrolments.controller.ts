import { Body, Controller, Get, Header, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { type AppActor, type DeviceActor, ForApps, ForDevices, From, On, type Request, Who } from '../access/index.js';
import { parseAddress, parsed, parsedJson, shapes } from '../foundation/index.js';
import { Announcements } from './announcements.js';
import { EnrolmentDesk } from './enrolment.js';

const platform = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,31}$/);
/** A name that people read: one line, no control characters. */
const name = z.string().max(64).regex(/^[^\p{Cc}\p{Cs}]*$/u);
const request = z.strictObject({
  address: z.string().max(320),
  csr: shapes.base64(4096),
  delivery: shapes.base64(2048),
  platform,
  name: name.optional(),
});
const answer = z.strictObject({ answer: z.string().regex(/^[A-Za-z0-9_-]{43}$/), signature: shapes.base64url(64), nonce: shapes.base64url(64) });
const confirmation = z.strictObject({ confirm: z.boolean() });

/** Seconds until a waiting enrolment is worth asking for again. */
const WAITING_RETRY = '5';

@Controller('v1/enrolments')
export class EnrolmentsController {
  constructor(@Inject(EnrolmentDesk) private readonly desk: EnrolmentDesk) {}

  @ForApps()
  @Post()
  async request(@Who() app: AppActor, @Body() body: unknown) {
    const { address, name = null, ...rest } = parsedJson(request, body);
    return this.desk.request(app, { ...rest, name, address: parseAddress(address) });
  }

  @ForApps()
  @Post(':id/answer')
  async answer(@Who() app: AppActor, @Param('id') id: string, @Body() body: unknown, @Res({ passthrough: true }) reply: FastifyReply) {
    const { state, ...outcome } = await this.desk.answer(app, parsed(shapes.id, id, 'the enrolment id'), parsedJson(answer, body));
    if (state === 'waiting') reply.header('retry-after', WAITING_RETRY);
    reply.status(state === 'waiting' ? 202 : 200);
    return state === 'waiting' ? { state, ...outcome } : outcome;
  }

  @ForDevices()
  @Get()
  async waiting(@Who() actor: DeviceActor) {
    return (await this.desk.waitingFor(actor)).map(({ sealed, shown, platform, name, requested }) => ({
      id: sealed.record.id,
      address: shown,
      platform,
      name,
      requestedAt: new Date(requested).toISOString(),
    }));
  }

  @ForDevices()
  @Post(':id/confirmation')
  @HttpCode(204)
  async confirm(@Who() actor: DeviceActor, @Param('id') id: string, @Body() body: unknown): Promise<void> {
    await this.desk.confirm(actor, parsed(shapes.id, id, 'the enrolment id'), parsedJson(confirmation, body).confirm);
  }
}

const page = (title: string, body: string): string =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title><main style="font:1.1rem/1.5 system-ui;max-width:36rem;margin:4rem auto;padding:0 1rem"><h1>${title}</h1>${body}</main></html>`;

/** "This was not me": reached from the announcement mail by any browser. Looking does nothing, since mail scanners look; the button does. */
@On('client')
@Controller('v1/freezes')
export class FreezesController {
  constructor(@Inject(Announcements) private readonly announcements: Announcements) {}

  @Get(':token')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('cache-control', 'no-store')
  ask(): string {
    return page('Was this not you?', '<p>The new device will get no key from now on.</p><form method="post"><button style="font:inherit;padding:.6rem 1.2rem">Stop this device</button></form>');
  }

  @Post(':token')
  @HttpCode(200)
  @Header('content-type', 'text/html; charset=utf-8')
  async freeze(@Param('token') token: string, @From() from: Request): Promise<string> {
    await this.announcements.freeze(token, { request: from.id, network: from.network });
    return page('The device is stopped', '<p>It gets no key any more. Please tell your IT department what happened: somebody may be able to read your mailbox.</p>');
  }
}
