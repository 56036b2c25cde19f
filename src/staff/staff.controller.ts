import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import {
  Contract,
  ForOwnPages,
  ForStaff,
  type GuardedRequest,
  On,
  provenance,
  REFUSALS,
  Sessions,
  type StaffActor,
  Who,
} from '../access/index.js';
import { Fault, isFault, parseAddress, parsed, parsedJson, shapes } from '../foundation/index.js';
import { StaffDoors } from './staff-doors.js';

const address = z.string().max(254).meta({ format: 'email' });
const asked = z.strictObject({ address }).meta({ id: 'StaffCodeRequest' });
const answered = z.strictObject({ code: z.string().max(40) }).meta({ id: 'StaffCode' });
const password = z.strictObject({ address, password: z.string().max(1_024) }).meta({ id: 'StaffPassword' });
const time = z.string().meta({ format: 'date-time' });
const methods = z.object({ methods: z.array(z.enum(['code', 'oidc', 'ldap'])) }).meta({ id: 'StaffSignInMethods' });
const pending = z.object({ id: shapes.id, expiresAt: time }).meta({ id: 'StaffCodeSent' });
const me = z.object({ address, method: z.string(), provedAt: time, endsAt: time }).meta({ id: 'StaffMember' });

const SIGNED_IN = { description: 'Signed in', headers: { 'Set-Cookie': 'The session, for this listener and address only' } };
const OFF = ['sign-in-method-off'];
const UNSOUND = ['address-malformed', 'address-not-ascii'];
const AWAY = [...REFUSALS.storage[503], ...REFUSALS.audit[503]];
const LEADS = { Location: 'Where the browser goes on' };

/** How employees sign in at the staff pages (docs/operators-guide.md). */
@Controller('v1/staff')
export class StaffController {
  constructor(
    @Inject(StaffDoors) private readonly doors: StaffDoors,
    @Inject(Sessions) private readonly sessions: Sessions,
  ) {}

  @ForOwnPages('staff')
  @Get('sign-in')
  @Contract({
    id: 'staffSignInMethods',
    summary: 'How employees may sign in here',
    answers: { 200: { description: 'Methods that are on', json: methods } },
    problems: REFUSALS.ownPages,
  })
  methods() {
    return { methods: this.doors.methods } satisfies z.input<typeof methods>;
  }

  @ForOwnPages('staff')
  @Post('codes')
  @HttpCode(202)
  @Contract({
    id: 'askStaffCode',
    summary: 'Mails a code; the answer is the same for every address',
    body: asked,
    answers: { 202: { description: 'If somebody here has this address, a code is on its way', json: pending } },
    problems: { ...REFUSALS.ownPages, 400: UNSOUND, 404: OFF, 429: ['budget-exceeded'], ...REFUSALS.storage },
  })
  ask(@Body() body: unknown, @Req() request: GuardedRequest) {
    return on(this.doors.code).ask(parseAddress(parsedJson(asked, body).address), provenance(request));
  }

  @ForOwnPages('staff')
  @Post('codes/:id')
  @HttpCode(204)
  @Contract({
    id: 'signInByStaffCode',
    summary: 'Signs in by the mailed code, in the browser that asked for it',
    path: { id: shapes.id },
    body: answered,
    answers: { 204: SIGNED_IN },
    problems: {
      403: [...REFUSALS.ownPages[403], 'sign-in-refused'],
      404: OFF,
      429: ['budget-exceeded'],
      503: [...AWAY, 'directory-unavailable'],
    },
  })
  async redeem(
    @Param('id') id: string,
    @Body() body: unknown,
    @Req() request: GuardedRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ) {
    const { code } = parsedJson(answered, body);
    const cookie = await on(this.doors.code).redeem(parsed(shapes.id, id, 'the id'), code, provenance(request));
    reply.header('set-cookie', cookie);
  }

  @ForOwnPages('staff')
  @Post('passwords')
  @HttpCode(204)
  @Contract({
    id: 'signInByPassword',
    summary: 'Signs in by the password of the organisation’s directory',
    body: password,
    answers: { 204: SIGNED_IN },
    problems: {
      400: UNSOUND,
      403: [...REFUSALS.ownPages[403], 'sign-in-refused'],
      404: OFF,
      429: ['budget-exceeded', 'too-many-attempts'],
      503: [...AWAY, 'directory-unavailable'],
    },
  })
  async password(@Body() body: unknown, @Req() request: GuardedRequest, @Res({ passthrough: true }) reply: FastifyReply) {
    const given = parsedJson(password, body);
    reply.header('set-cookie', await on(this.doors.password).signIn(parseAddress(given.address), given.password, provenance(request)));
  }

  @On('staff')
  @Get('oidc')
  @Contract({
    id: 'beginOidcSignIn',
    summary: 'Sends the browser to the organisation’s OpenID Connect provider',
    answers: { 303: { description: 'To the provider, or back to the page with what went wrong', headers: LEADS } },
    problems: { 404: OFF },
  })
  async beginOidc(@Req() request: GuardedRequest, @Res() reply: FastifyReply) {
    const oidc = on(this.doors.oidc);
    await leading(reply, async () => {
      const { location, cookie } = await oidc.begin(provenance(request));
      return { location, cookies: [cookie] };
    });
  }

  @On('staff')
  @Get('oidc/callback')
  @Contract({
    id: 'finishOidcSignIn',
    summary: 'Where the provider sends the browser back to',
    answers: { 303: { description: 'Signed in, or back at the page with what went wrong', headers: { ...LEADS, ...SIGNED_IN.headers } } },
    problems: { 404: OFF },
  })
  async finishOidc(@Req() request: GuardedRequest, @Res() reply: FastifyReply) {
    const oidc = on(this.doors.oidc);
    await leading(reply, async () => {
      const { search: query } = new URL(request.url, 'https://staff.invalid');
      const cookie = await oidc.finish(query, request.headers.cookie, provenance(request));
      return { location: '/', cookies: [cookie, oidc.endingCookie] };
    });
  }

  @ForStaff()
  @Get('me')
  @Contract({ id: 'staffMember', summary: 'Who is signed in', answers: { 200: { description: 'The session', json: me } } })
  me(@Who() { address, session }: StaffActor) {
    return {
      address,
      method: session.method,
      provedAt: new Date(session.proved).toISOString(),
      endsAt: new Date(session.ends).toISOString(),
    } satisfies z.input<typeof me>;
  }

  @ForStaff()
  @Delete('session')
  @HttpCode(204)
  @Contract({ id: 'staffSignOut', summary: 'Signs out', answers: { 204: { description: 'The session is over' } } })
  async signOut(@Who() actor: StaffActor, @Res({ passthrough: true }) reply: FastifyReply) {
    await this.doors.signOut(actor);
    reply.header('set-cookie', this.sessions.endingCookie('staff'));
  }
}

function on<T>(door: T | undefined): T {
  if (!door) throw new Fault('not-found', 'sign-in-method-off', 'this way of signing in is not on here');
  return door;
}

/** A person's browser follows these routes: what went wrong is said by the page that it ends at. */
async function leading(reply: FastifyReply, act: () => Promise<{ location: string; cookies: string[] }>): Promise<void> {
  const { location, cookies } = await act().catch((error: unknown) => {
    if (!isFault(error)) throw error;
    return { location: `/?refused=${error.code}`, cookies: [] };
  });
  reply.status(303).header('cache-control', 'no-store').header('location', location);
  if (cookies.length > 0) reply.header('set-cookie', cookies);
  await reply.send();
}
