import { Body, Controller, Get, Header, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { type AppActor, Contract, type DeviceActor, ForApps, ForDevices, On, REFUSALS, Who } from '../access/index.js';
import { parseAddress, parsed, parsedJson, shapes } from '../foundation/index.js';
import { Announcements } from './announcements.js';
import {
  enrolledDevice,
  enrolment,
  enrolmentAnswer,
  enrolmentConfirmation,
  enrolmentRequest,
  waitingAnswer,
  waitingEnrolment,
} from './devices-shapes.js';
import { EnrolmentDesk } from './enrolment.js';

/** Seconds until a waiting enrolment is worth asking for again. */
const WAITING_RETRY = '5';

@Controller('v1/enrolments')
export class EnrolmentsController {
  constructor(@Inject(EnrolmentDesk) private readonly desk: EnrolmentDesk) {}

  @ForApps()
  @Post()
  @Contract({
    id: 'requestEnrolment',
    summary: 'Asks to enrol a device: a challenge goes to the address by mail. Known and unknown addresses get the same answer',
    body: enrolmentRequest,
    answers: { 201: { description: 'The challenge is on its way', json: enrolment } },
    problems: {
      ...REFUSALS.token,
      ...REFUSALS.budget,
      400: [
        'address-malformed',
        'address-not-ascii',
        'csr-malformed',
        'csr-signature-wrong',
        'identity-key-unfit',
        'delivery-key-malformed',
        'delivery-key-weak',
      ],
      403: ['domain-not-served', 'address-reserved', 'enrolment-closed', 'client-too-old', 'device-unregistered'],
      409: ['device-key-used'],
    },
  })
  async request(@Who() app: AppActor, @Body() body: unknown): Promise<z.input<typeof enrolment>> {
    const { address, name = null, version, registration, ...rest } = parsedJson(enrolmentRequest, body);
    return this.desk.request(app, { ...rest, name, version, registration, address: parseAddress(address) });
  }

  @ForApps()
  @Post(':id/answer')
  @Contract({
    id: 'answerEnrolment',
    summary: 'Answers the challenge with both halves of its token; the same answer may be given again while it waits',
    path: { id: shapes.id },
    body: enrolmentAnswer,
    answers: {
      200: { description: 'The device is enrolled', json: enrolledDevice },
      202: {
        description: 'The answer is right; a second proof is waited for',
        json: waitingAnswer,
        headers: { 'Retry-After': 'Seconds until asking again makes sense' },
      },
    },
    problems: {
      ...REFUSALS.token,
      ...REFUSALS.budget,
      403: [
        'answer-wrong',
        'enrolment-denied',
        'mailbox-shared',
        'decision-forged',
        'binding-ended',
        'record-forged',
        'record-stale',
        'not-the-owner',
        'blob-forged',
        'employee-blocked',
        'device-unregistered',
      ],
      404: ['enrolment-unknown'],
      409: [
        'device-cap',
        'enrolment-spent',
        'device-key-used',
        'binding-changed',
        'key-state',
        'pair-spent',
        'duplicate',
        'token-call-refused',
      ],
      410: ['enrolment-expired'],
    },
  })
  async answer(
    @Who() app: AppActor,
    @Param('id') id: string,
    @Body() body: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof enrolledDevice> | z.input<typeof waitingAnswer>> {
    const outcome = await this.desk.answer(app, parsed(shapes.id, id, 'the enrolment id'), parsedJson(enrolmentAnswer, body));
    if (outcome.state === 'waiting') {
      reply.status(202).header('retry-after', WAITING_RETRY);
      return outcome;
    }
    reply.status(200);
    const { device, employee, certificates } = outcome;
    return { device, employee, certificates };
  }

  @ForDevices()
  @Get()
  @Contract({
    id: 'listWaitingEnrolments',
    summary: "Further devices of the device's person that wait for a word from it",
    answers: { 200: { description: 'What waits, oldest first', json: z.array(waitingEnrolment) } },
  })
  async waiting(@Who() actor: DeviceActor): Promise<z.input<typeof waitingEnrolment>[]> {
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
  @Contract({
    id: 'confirmEnrolment',
    summary: 'Says yes or no to a further device of the same person',
    path: { id: shapes.id },
    body: enrolmentConfirmation,
    answers: { 204: { description: 'It is decided' } },
    problems: { 404: ['enrolment-unknown'] },
  })
  async confirm(@Who() actor: DeviceActor, @Param('id') id: string, @Body() body: unknown): Promise<void> {
    await this.desk.confirm(actor, parsed(shapes.id, id, 'the enrolment id'), parsedJson(enrolmentConfirmation, body).confirm);
  }
}

const linkToken = z.string().meta({ description: 'From the announcement mail', contentEncoding: 'base64url' });

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
  @Contract({
    id: 'askFreeze',
    summary: 'The page behind the link "this was not me"; looking at it changes nothing',
    path: { token: linkToken },
    answers: { 200: { description: 'A page with a button', type: 'text/html' } },
  })
  ask(): string {
    return page(
      'Was this not you?',
      '<p>The new device will get no key from now on.</p><form method="post"><button style="font:inherit;padding:.6rem 1.2rem">Stop this device</button></form>',
    );
  }

  @Post(':token')
  @HttpCode(200)
  @Header('content-type', 'text/html; charset=utf-8')
  @Contract({
    id: 'freezeDevice',
    summary: 'Stops the device that the link is about',
    path: { token: linkToken },
    answers: { 200: { description: 'It gets no key any more', type: 'text/html' } },
    problems: {
      404: ['freeze-unknown'],
      409: ['device-ended'],
      503: [...REFUSALS.storage[503], ...REFUSALS.audit[503], ...REFUSALS.token[503]],
    },
  })
  async freeze(@Param('token') token: string): Promise<string> {
    await this.announcements.freeze(token);
    return page(
      'The device is stopped',
      '<p>It gets no key any more. Please tell your IT department what happened: somebody may be able to read your mailbox.</p>',
    );
  }
}
