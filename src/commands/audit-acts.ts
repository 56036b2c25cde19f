import { z } from 'zod';
import {
  FILTER_QUESTION,
  prunedUntil,
  REPORT_QUESTION,
  REPORTS,
  reportQuestion,
  searchQuestion,
  shownPage,
  shownReport,
} from '../audit/index.js';
import { TILE_WIDTH, type Tile } from '../codec/merkle/index.js';
import type { Json } from '../foundation/index.js';
import type { House } from '../house.js';
import { logAcceptance } from '../tokens/index.js';
import { act } from './act.js';

/** Tiles or bundles in one answer: some 5 MB of entries. */
export const TILES_AT_ONCE = 32;

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
const range = { from: z.int().min(0), count: z.int().min(1).max(TILES_AT_ONCE), size: z.int().min(1) };

/** Tiles `from` on at a level of the tree of `size` entries. */
function tilesIn({ level, from, count, size }: { level: number; from: number; count: number; size: number }): Tile[] {
  const there = Math.floor(size / TILE_WIDTH ** level);
  const tiles: Tile[] = [];
  for (let index = from; index < from + count && index * TILE_WIDTH < there; index += 1)
    tiles.push({ level, index, width: Math.min(TILE_WIDTH, there - index * TILE_WIDTH) });
  return tiles;
}

async function each<T>(tiles: Tile[], read: (tile: Tile) => Promise<T>): Promise<T[]> {
  const all: T[] = [];
  for (const tile of tiles) all.push(await read(tile));
  return all;
}

/** What `ekms audit export` and `verify` read the log by. Reading entries is an entry. */
export const AUDIT_ACTS = {
  'audit.head': act({
    args: z.strictObject({}),
    roles: ['auditor'],
    perform: async (house: House) => {
      await house.checkpoints.publish();
      return {
        checkpoint: await house.logBook.checkpoint(),
        former: await house.logBook.formerCheckpoints(),
        successions: await house.logBook.successions(),
        pruned: await prunedUntil(house.storage),
        stamps: (await house.timeStamps.all()).map(({ size, note, token }) => ({ size, note, token: base64(token) })),
      };
    },
  }),
  'audit.rotate-key': act({
    args: z.strictObject({}),
    roles: ['operator'],
    danger: 'two-persons',
    perform: (house: House, _, by) => house.auditKeyRotation.rotate(by),
  }),
  'audit.tiles': act({
    args: z.strictObject({ level: z.int().min(0).max(7), ...range }),
    roles: ['auditor'],
    perform: async (house: House, args) => each(tilesIn(args), async (tile) => base64(await house.logBook.tile(tile))),
  }),
  'audit.entries': act({
    args: z.strictObject(range),
    roles: ['auditor'],
    perform: async (house: House, args, by) =>
      each(tilesIn({ level: 0, ...args }), async (tile) => base64(await house.logBook.bundle(tile, { actor: by }))),
  }),
  'audit.report': act({
    args: z.strictObject({ report: z.enum(REPORTS), ...REPORT_QUESTION }),
    roles: ['auditor'],
    perform: async (house: House, { report, ...range }, by) =>
      shownReport(await house.auditReports.make(report, reportQuestion.parse(range), { actor: by })),
  }),
  'audit.evidence': act({
    args: z.strictObject(FILTER_QUESTION),
    roles: ['auditor'],
    danger: 'two-persons',
    collected: true,
    perform: async (house: House, question, by) => {
      const { zip, ...rest } = await house.evidence.pack(searchQuestion.parse(question).filter, question as Json, by); // it came as JSON
      return { ...rest, zip: base64(zip) };
    },
  }),
  'audit.erase-person': act({
    args: z.strictObject({ person: z.string().min(1).max(254) }),
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: (house: House, { person }, by) => house.erasure.erase(person, by),
  }),
  'audit.prune': act({
    args: z.strictObject({}),
    roles: ['security-officer'],
    danger: 'two-persons',
    perform: (house: House, _, by) => house.pruning.prune(by),
  }),
  'audit.search': act({
    args: searchQuestion,
    roles: ['auditor'],
    perform: async (house: House, { filter, before, count }, by) =>
      shownPage(await house.auditSearch.find(filter, { before, count }, { actor: by })),
  }),
  'audit.loss': act({
    args: z.strictObject({}),
    roles: ['auditor', 'security-officer'],
    perform: (house: House) => house.logAcceptances.ask(),
  }),
  // Not 'two-persons' by itself: the token process demands signatures of two persons at least, whoever asks.
  'audit.accept-rollback': act({
    args: z.strictObject({
      acceptance: logAcceptance,
      approvals: z.array(z.strictObject({ agent: z.string().max(80), signature: z.string().max(2_000) })).max(16),
    }),
    roles: ['security-officer'],
    perform: (house: House, { acceptance, approvals }, by) =>
      house.logAcceptances.accept(
        acceptance,
        approvals.map(({ agent, signature }) => ({ agent, signature: Buffer.from(signature, 'base64') })),
        by,
      ),
  }),
} as const;
