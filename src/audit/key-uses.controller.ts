import { Controller, Get, Inject, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { Contract, type DeviceActor, ForDevices, REFUSALS, Who } from '../access/index.js';
import { parsed } from '../foundation/index.js';
import { KeyUses, type OpenedName } from './key-uses.js';

const number = (description: string) =>
  z
    .string()
    .regex(/^(0|[1-9]\d{0,14})$/)
    .transform(Number)
    .meta({ description });
const query = {
  from: number('Index of the log to begin at'),
  since: number('Size of the checkpoint that is remembered'),
  nonce: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}$/)
    .meta({
      contentEncoding: 'base64url',
      description: '32 random bytes: the entries of this reading say them, so that it is known to be no older one.',
    }),
};

const opening = (description: string) =>
  z
    .object({ salt: z.string().meta({ contentEncoding: 'base64url' }), value: z.string() })
    .nullable()
    .meta({ description });
const hashes = z.array(z.string().meta({ contentEncoding: 'base64' }));
const keyUses = z
  .object({
    checkpoint: z.string().meta({ description: 'C2SP checkpoint, a signed note; it covers every entry here.' }),
    vouch: z.string().meta({ description: 'JWS, compact, by the delivery key: the key that checkpoints are signed with.' }),
    successions: z
      .array(z.string())
      .meta({ description: 'What both keys of the log signed each time that one took over from another (docs/formats/audit-log.md).' }),
    consistency: hashes
      .nullable()
      .meta({ description: 'That the checkpoint extends the tree of `since` entries (RFC 9162 §2.1.4); null where there are fewer.' }),
    uses: z.array(
      z.object({
        index: z.int().min(0),
        entry: z.string().meta({ description: 'The leaf, byte for byte (docs/formats/audit-entry.md).' }),
        proof: hashes.meta({ description: 'That the checkpoint covers it (RFC 9162 §2.1.3).' }),
        network: opening('Opens the digest `personal.network` of the entry; null where there is none, or it was erased.'),
        reader: opening('The same of `personal.reader`: who read the mail.'),
        sealed: opening('The same of `personal.sealed`, from its date on: what the entry says (docs/formats/audit-entry.md).'),
      }),
    ),
    pruned: z
      .object({ index: z.int().min(0), entry: z.string(), proof: hashes })
      .nullable()
      .meta({ description: 'The entry `audit.prune` that says up to where entries were let go; null where none were.' }),
    next: z.int().min(0).nullable().meta({ description: 'Where to go on; null at the end. The last entries are this very reading.' }),
  })
  .meta({ id: 'KeyUses' });

@ForDevices()
@Controller('v1/me/uses')
export class KeyUsesController {
  constructor(@Inject(KeyUses) private readonly uses: KeyUses) {}

  @Get()
  @Contract({
    id: 'listUses',
    summary: "Every entry about the keys of the device's person, with proofs; reading them is such an entry too",
    query,
    answers: { 200: { description: 'The entries, oldest first', json: keyUses } },
    problems: {
      ...REFUSALS.token,
      ...REFUSALS.budget,
      400: ['body-malformed'],
      503: [...REFUSALS.token[503], ...REFUSALS.log[503], 'search-behind'],
    },
  })
  async list(
    @Who() actor: DeviceActor,
    @Query() asked: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof keyUses>> {
    const { consistency, uses, pruned, ...rest } = await this.uses.of(actor, parsed(z.strictObject(query), asked, 'the query'));
    reply.header('cache-control', 'no-store');
    return {
      ...rest,
      pruned: pruned && { ...pruned, proof: pruned.proof.map((hash) => hash.toString('base64')) },
      consistency: consistency && base64(consistency),
      uses: uses.map(({ proof, opened, ...use }) => {
        const opens = (name: OpenedName) => {
          const one = opened.get(name);
          return one ? { salt: one.salt.toString('base64url'), value: one.value } : null;
        };
        return { ...use, proof: base64(proof), network: opens('network'), reader: opens('reader'), sealed: opens('sealed') };
      }),
    };
  }
}

const base64 = (hashes: readonly Buffer[]): string[] => hashes.map((hash) => hash.toString('base64'));
