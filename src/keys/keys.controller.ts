import { Body, Controller, Get, HttpCode, Inject, Param, Post, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { type DeviceActor, ForDevices, Who } from '../access/index.js';
import { parsed, parsedJson, shapes } from '../foundation/index.js';
import { KeyVault } from './key-vault.js';

const decryption = z.strictObject({
  scheme: z.enum(['rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256']),
  encryptedKey: shapes.base64(1024),
  length: z.union([z.literal(16), z.literal(24), z.literal(32)]),
});

/** Seconds until a pending key is worth asking for again. */
const PENDING_RETRY = '2';

@ForDevices()
@Controller('v1/keys')
export class KeysController {
  constructor(@Inject(KeyVault) private readonly vault: KeyVault) {}

  @Get()
  async list(@Who() actor: DeviceActor, @Res({ passthrough: true }) reply: FastifyReply) {
    const keys = await this.vault.retrieve(actor);
    reply.header('cache-control', 'no-store');
    if (keys.some((key) => key.state === 'pending')) reply.header('retry-after', PENDING_RETRY);
    return keys.map((key) => ({ ...key, delivery: key.delivery?.toString('base64') ?? null }));
  }

  @Post(':id/decryptions')
  @HttpCode(200)
  async decrypt(@Who() actor: DeviceActor, @Param('id') id: string, @Body() body: unknown) {
    const { wrapped, ...rest } = await this.vault.decrypt(actor, parsed(shapes.id, id, 'the key id'), parsedJson(decryption, body));
    return { wrapped: wrapped.toString('base64'), ...rest };
  }
}
