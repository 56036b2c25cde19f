import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import {
  type AdministratorActor,
  Contract,
  ForAdministrators,
  ForOwnPages,
  type GuardedRequest,
  provenance,
  REFUSALS,
  Who,
} from '../access/index.js';
import { parsed, parsedJson, ROLES } from '../foundation/index.js';
import { AdministratorSignIn } from './administrator-sign-in.js';
import { Administrators } from './administrators.js';
import { BreakGlass } from './break-glass.js';
import { Invitations } from './invitations.js';
import { assertion, attestation, Passkeys } from './passkeys.js';

const name = z
  .string()
  .trim()
  .min(1)
  .max(80)
  .regex(/^[^\p{Cc}\p{Cs}]*$/u, 'control characters are refused');
const invitee = { name: name.optional(), address: z.string().max(254).optional() };
const token = z.string().length(43);
const invited = z.strictObject({ token, ...invitee }).meta({ id: 'InvitationToken' });
const accepted = z.strictObject({ token, ...invitee, passkey: name, response: attestation }).meta({ id: 'InvitationAnswer' });
const answered = z.strictObject({ response: assertion }).meta({ id: 'PasskeyAnswer' });
const added = z.strictObject({ name, response: attestation }).meta({ id: 'NewPasskey' });

const options = z
  .looseObject({ challenge: z.string() })
  .meta({ id: 'PasskeyOptions', description: 'For PublicKeyCredential.parse…OptionsFromJSON (WebAuthn level 3 §5.1)' });
const time = z.string().meta({ format: 'date-time' });
const person = z
  .object({
    id: z.string(),
    name: z.string(),
    role: z.enum(ROLES).nullable(),
    bootstrap: z.boolean().meta({ description: 'Single acts are allowed: two security officers are not registered yet.' }),
    breakGlass: z
      .object({ officers: z.array(z.object({ name: z.string(), address: z.string() })), opensAt: time })
      .nullable()
      .meta({ description: 'New officers are being made without two; any administrator can stop it (act break-glass.cancel).' }),
    provedAt: time.meta({ description: 'When the person last proved themself in full.' }),
    endsAt: time,
    passkeys: z.array(z.object({ id: z.string(), name: z.string(), createdAt: time, usedAt: time.nullable() })),
  })
  .meta({ id: 'SignedIn' });
const welcome = z.object({ id: z.string(), name: z.string(), role: z.enum(ROLES).nullable() }).meta({ id: 'Welcome' });

const CEREMONY = { 401: ['challenge-unknown', 'passkey-refused'], 403: ['passkey-cloned'], 503: ['audit-unavailable'] };
const OWN = REFUSALS.ownPages;
const ADDRESS = ['address-malformed', 'address-not-ascii', 'person-missing'];
const signedIn = { 'Set-Cookie': 'The session, for this listener and address only' };

/** How administrators come in, and what each does about their own passkeys. */
@Controller('v1/admin')
export class SignInController {
  constructor(
    @Inject(AdministratorSignIn) private readonly signing: AdministratorSignIn,
    @Inject(Invitations) private readonly invitations: Invitations,
    @Inject(Administrators) private readonly administrators: Administrators,
    @Inject(Passkeys) private readonly passkeys: Passkeys,
    @Inject(BreakGlass) private readonly breakGlass: BreakGlass,
  ) {}

  @ForOwnPages('administration')
  @Post('invitations/options')
  @HttpCode(200)
  @Contract({
    id: 'beginInvitation',
    summary: 'What an invited person makes a passkey with',
    body: invited,
    answers: { 200: { description: 'Options for navigator.credentials.create', json: options } },
    problems: { ...OWN, 400: ADDRESS, 404: ['invitation-unknown', 'administrator-unknown'], ...REFUSALS.storage },
  })
  beginInvitation(@Body() body: unknown, @Req() request: GuardedRequest) {
    const { token, ...invitee } = parsedJson(invited, body);
    return this.invitations.options(token, invitee, provenance(request));
  }

  @ForOwnPages('administration')
  @Post('invitations')
  @Contract({
    id: 'acceptInvitation',
    summary: 'Registers an invited person with their first passkey, and signs them in; the link is used up',
    body: accepted,
    answers: { 201: { description: 'An administrator', json: welcome, headers: signedIn } },
    problems: {
      400: ADDRESS,
      401: CEREMONY[401],
      403: [...OWN[403], 'passkey-hybrid'],
      404: ['invitation-unknown', 'administrator-unknown'],
      409: ['address-taken'],
      503: [...REFUSALS.storage[503], 'audit-unavailable'],
    },
  })
  async accept(@Body() body: unknown, @Req() request: GuardedRequest, @Res({ passthrough: true }) reply: FastifyReply) {
    const { token, passkey, response, ...invitee } = parsedJson(accepted, body);
    const { administrator, cookie } = await this.invitations.accept(token, { invitee, passkey, response }, provenance(request));
    reply.header('set-cookie', cookie);
    return { id: administrator.id, name: administrator.name, role: administrator.role } satisfies z.input<typeof welcome>;
  }

  @ForOwnPages('administration')
  @Post('sign-in/options')
  @HttpCode(200)
  @Contract({
    id: 'beginSignIn',
    summary: 'What an administrator signs in with',
    answers: { 200: { description: 'Options for navigator.credentials.get', json: options } },
    problems: { ...OWN, ...REFUSALS.storage },
  })
  beginSignIn(@Req() request: GuardedRequest) {
    return this.signing.options(provenance(request));
  }

  @ForOwnPages('administration')
  @Post('sign-in')
  @HttpCode(200)
  @Contract({
    id: 'signIn',
    summary: 'Signs an administrator in by passkey; a session of this browser before ends',
    body: answered,
    answers: { 200: { description: 'Signed in', json: welcome, headers: signedIn } },
    problems: {
      401: CEREMONY[401],
      403: [...OWN[403], ...CEREMONY[403]],
      404: ['administrator-unknown'],
      503: [...REFUSALS.storage[503], 'audit-unavailable'],
    },
  })
  async signIn(@Body() body: unknown, @Req() request: GuardedRequest, @Res({ passthrough: true }) reply: FastifyReply) {
    const { response } = parsedJson(answered, body);
    const { administrator, cookie } = await this.signing.signIn(response, request.headers.cookie, provenance(request));
    reply.header('set-cookie', cookie);
    return { id: administrator.id, name: administrator.name, role: administrator.role } satisfies z.input<typeof welcome>;
  }

  @ForAdministrators()
  @Post('sign-out')
  @HttpCode(204)
  @Contract({ id: 'signOut', summary: 'Ends this session', answers: { 204: { description: 'It is over' } } })
  async signOut(@Who() actor: AdministratorActor, @Res({ passthrough: true }) reply: FastifyReply): Promise<void> {
    reply.header('set-cookie', await this.signing.signOut(actor));
  }

  @ForAdministrators()
  @Get('me')
  @Contract({ id: 'me', summary: 'Who is signed in', answers: { 200: { description: 'The administrator', json: person } } })
  async me(@Who() actor: AdministratorActor, @Res({ passthrough: true }) reply: FastifyReply): Promise<z.input<typeof person>> {
    reply.header('cache-control', 'no-store');
    const { id, name, role } = await this.administrators.active(actor.id);
    const passkeys = await this.passkeys.of(id);
    const glass = await this.breakGlass.waiting();
    return {
      ...{ id, name, role },
      bootstrap: !(await this.administrators.bootstrap.isOver()),
      breakGlass: glass ? { officers: glass.officers, opensAt: iso(glass.opens) } : null,
      provedAt: iso(actor.session.proved),
      endsAt: iso(actor.session.ends),
      passkeys: passkeys.map((one) => ({
        id: one.id,
        name: one.name,
        createdAt: iso(one.created),
        usedAt: one.used === null ? null : iso(one.used),
      })),
    };
  }

  @ForAdministrators()
  @Post('proofs/options')
  @HttpCode(200)
  @Contract({
    id: 'beginProof',
    summary: 'What the person behind a session proves themself with again',
    answers: { 200: { description: 'Options for navigator.credentials.get', json: options } },
  })
  beginProof(@Who() actor: AdministratorActor) {
    return this.signing.proofOptions(actor);
  }

  @ForAdministrators()
  @Post('proofs')
  @HttpCode(204)
  @Contract({
    id: 'prove',
    summary: 'Proves it; for five minutes what is dangerous may be asked for',
    body: answered,
    answers: { 204: { description: 'Proved' } },
    problems: CEREMONY,
  })
  async prove(@Who() actor: AdministratorActor, @Body() body: unknown): Promise<void> {
    await this.signing.prove(actor, parsedJson(answered, body).response);
  }

  @ForAdministrators()
  @Post('passkeys/options')
  @HttpCode(200)
  @Contract({
    id: 'beginPasskey',
    summary: 'What one’s next passkey is made with',
    answers: { 200: { description: 'Options for navigator.credentials.create', json: options } },
    problems: { 401: ['proof-needed'] },
  })
  beginPasskey(@Who() actor: AdministratorActor) {
    return this.signing.passkeyOptions(actor);
  }

  @ForAdministrators()
  @Post('passkeys')
  @HttpCode(204)
  @Contract({
    id: 'addPasskey',
    summary: 'Adds a passkey to one’s own',
    body: added,
    answers: { 204: { description: 'Added' } },
    problems: { 401: ['proof-needed', ...CEREMONY[401]], 403: ['passkey-hybrid'], 409: ['passkey-taken'] },
  })
  async addPasskey(@Who() actor: AdministratorActor, @Body() body: unknown): Promise<void> {
    const { name, response } = parsedJson(added, body);
    await this.signing.addPasskey(actor, name, response);
  }

  @ForAdministrators()
  @Delete('passkeys/:passkey')
  @HttpCode(204)
  @Contract({
    id: 'removePasskey',
    summary: 'Removes one of one’s own passkeys, but never the last',
    path: { passkey: z.string() },
    answers: { 204: { description: 'It opens nothing any more' } },
    problems: { 401: ['proof-needed'], 404: ['passkey-unknown'], 409: ['passkey-last'] },
  })
  async removePasskey(@Who() actor: AdministratorActor, @Param('passkey') passkey: string): Promise<void> {
    await this.signing.removePasskey(actor, parsed(z.string().max(1_400), passkey, 'the passkey'));
  }
}

const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();
