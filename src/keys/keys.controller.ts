import { Body, Controller, Get, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Contract, type DeviceActor, ForDevices, REFUSALS, Who } from '../access/index.js';
import { parsed, parsedJson, shapes } from '../foundation/index.js';
import { KeyVault } from './key-vault.js';
import { decryption, decryptionRequest, servedKey } from './keys-shapes.js';

/** Seconds until a pending key is worth asking for again. */
const PENDING_RETRY = '2';

/** What the token process refuses about one key: the record or the blob is not what it sealed, or has been replaced. */
const TOKEN_REFUSALS = [
  'record-forged',
  'record-stale',
  'blob-forged',
  'not-the-owner',
  'delivery-key-foreign',
  'key-not-deliverable',
] as const;
const TOKEN_CONFLICTS = ['blob-corrupt', 'token-call-refused'] as const;

@ForDevices()
@Controller('v1/keys')
export class KeysController {
  constructor(@Inject(KeyVault) private readonly vault: KeyVault) {}

  @Get()
  @Contract({
    id: 'listKeys',
    summary: "Every readable key of the device's person, sealed for this device; each delivery is an entry of the log",
    answers: {
      200: {
        description: 'The keys, newest first',
        json: z.array(servedKey),
        headers: { 'Retry-After': 'Seconds, where a key is still pending' },
      },
    },
    problems: {
      ...REFUSALS.token,
      ...REFUSALS.budget,
      503: [...REFUSALS.token[503], ...REFUSALS.log[503]],
      403: TOKEN_REFUSALS,
      409: [...TOKEN_CONFLICTS, 'key-changed'],
    },
  })
  async list(@Who() actor: DeviceActor, @Res({ passthrough: true }) reply: FastifyReply): Promise<z.input<typeof servedKey>[]> {
    const keys = await this.vault.retrieve(actor);
    reply.header('cache-control', 'no-store');
    if (keys.some((key) => key.state === 'pending')) reply.header('retry-after', PENDING_RETRY);
    return keys.map((key) => ({ ...key, delivery: key.delivery?.toString('base64') ?? null }));
  }

  @Post(':id/decryptions')
  @HttpCode(200)
  @Contract({
    id: 'decryptKey',
    summary: 'Remote mode: opens one content-encryption key and seals it for this device',
    path: { id: shapes.id },
    body: decryptionRequest,
    answers: { 200: { description: 'The content-encryption key', json: decryption } },
    problems: {
      ...REFUSALS.token,
      ...REFUSALS.budget,
      503: [...REFUSALS.token[503], ...REFUSALS.log[503]],
      403: TOKEN_REFUSALS,
      404: ['key-unknown'],
      409: TOKEN_CONFLICTS,
    },
  })
  async decrypt(@Who() actor: DeviceActor, @Param('id') id: string, @Body() body: unknown): Promise<z.input<typeof decryption>> {
    const { wrapped, ...rest } = await this.vault.decrypt(actor, parsed(shapes.id, id, 'the key id'), parsedJson(decryptionRequest, body));
    return { wrapped: wrapped.toString('base64'), ...rest };
  }
}
