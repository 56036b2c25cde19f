import { generateKeyPairSync, hash, type KeyObject, sign } from 'node:crypto';
import { type Damage, type ExportSource, type Verdict, verifyExport } from '../../src/codec/audit-log/index.js';
import {
  bundlePath,
  checkpointText,
  encodeBundle,
  Frontier,
  hashLeaf,
  hashOver,
  keyId,
  type NoteKey,
  type Sha256,
  signatureLine,
  TILE_WIDTH,
  tilePath,
  verifyByWebCrypto,
} from '../../src/codec/merkle/index.js';
import { canonicalJson } from '../../src/foundation/index.js';

type Dice = (sides: number) => number;

export const sha256: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');
const ORIGIN = 'ekms.corp.example/v1/audit';

/** A log's key pair. */
export class Signer {
  readonly #pair: { publicKey: KeyObject; privateKey: KeyObject } = generateKeyPairSync('ed25519');
  readonly key: NoteKey = {
    name: ORIGIN,
    type: 'ed25519',
    publicKey: this.#pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32),
  };

  note(size: number, root: Uint8Array): string {
    const text = checkpointText({ origin: ORIGIN, size, root });
    const signature = sign(null, Buffer.from(text), this.#pair.privateKey);
    return `${text}\n${signatureLine({ name: ORIGIN, keyId: keyId(sha256, this.key), signature })}`;
  }
}

export type Files = Map<string, Uint8Array>;
export const sourceOf = (files: Files): ExportSource => ({ read: async (path) => files.get(path), paths: async () => [...files.keys()] });

const KEYS = ['k1', 'k2', 'k3'];

/** Entries of a made-up log, as docs/formats/audit-entry.md has them. */
export function entriesOf(count: number, dice: Dice, before: readonly string[] = [], mark = 'd'): string[] {
  const uses = new Map<string, { use: number; leaf: string }>();
  const entries: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const key = KEYS[dice(4)];
    const last = key === undefined ? undefined : uses.get(key);
    const made =
      before[index] ??
      canonicalJson({
        v: 1,
        index: String(index),
        time: new Date(1_790_000_000_000 + index * 1000).toISOString(),
        action: 'key.deliver',
        outcome: 'done',
        actor: { kind: 'device', id: `${mark}${dice(1000)}` },
        ...(key === undefined ? {} : { key, use: String((last?.use ?? 0) + 1), ...(last ? { previous: last.leaf } : {}) }),
      });
    const body = JSON.parse(made) as { key?: string; use?: string };
    if (body.key !== undefined)
      uses.set(body.key, { use: Number(body.use), leaf: Buffer.from(hashLeaf(sha256, Buffer.from(made))).toString('base64url') });
    entries.push(made);
  }
  return entries;
}

export const rootOf = (entries: readonly string[]): Uint8Array => {
  const frontier = new Frontier(sha256);
  for (const entry of entries) frontier.append(hashLeaf(sha256, Buffer.from(entry)));
  return frontier.root();
};

/** An export of these entries, and of tiles over `hashed`, which are the same unless somebody lies. */
export function exportOf(entries: readonly string[], note: string, hashed: readonly string[] = entries): Files {
  const files: Files = new Map([['checkpoint', Buffer.from(note)]]);
  for (let at = 0; at < entries.length; at += TILE_WIDTH) {
    const some = entries.slice(at, at + TILE_WIDTH);
    files.set(bundlePath({ index: at / TILE_WIDTH, width: some.length }), encodeBundle(some.map((entry) => Buffer.from(entry))));
  }
  let level = 0;
  for (let hashes = hashed.map((entry) => hashLeaf(sha256, Buffer.from(entry))); hashes.length > 0; level += 1) {
    const above: Uint8Array[] = [];
    for (let at = 0; at < hashes.length; at += TILE_WIDTH) {
      const some = hashes.slice(at, at + TILE_WIDTH);
      files.set(tilePath({ level, index: at / TILE_WIDTH, width: some.length }), Buffer.concat(some));
      if (some.length === TILE_WIDTH) above.push(hashOver(sha256, some));
    }
    hashes = above;
  }
  return files;
}

/** What somebody did to a log: the files they hand out, the heads that were remembered, and the first bad index, where that can be known. */
export interface Case {
  files: Files;
  heads: string[];
  first?: number;
  /** Found only by a remembered head: without one the verdict must say what it cannot exclude. */
  needsHead?: boolean;
}

type Tamper = (entries: string[], signer: Signer, dice: Dice) => Case;

const edit = (entry: string, change: Record<string, string>): string =>
  canonicalJson({ ...(JSON.parse(entry) as Record<string, string>), ...change });
const signed = (entries: readonly string[], signer: Signer) => signer.note(entries.length, rootOf(entries));

/** Changes entries alone, or the tiles with them: the checkpoint stays, since nobody has the key. */
const altered = (entries: string[], changed: string[], signer: Signer, dice: Dice, first: number): Case => {
  const withTiles = dice(2) === 0;
  // A head from before the change brackets it where the tiles were made to fit.
  const heads = withTiles ? [signed(entries.slice(0, first), signer)].filter(() => first > 0) : [];
  return { files: exportOf(changed, signed(entries, signer), withTiles ? changed : entries), heads, first };
};

/** The twelve kinds. */
export const TAMPERINGS: Record<string, Tamper> = {
  'change a field': (entries, signer, dice) => {
    const at = dice(entries.length);
    return altered(entries, entries.with(at, edit(entries[at] ?? '', { outcome: 'refused' })), signer, dice, at);
  },
  'change a time': (entries, signer, dice) => {
    const at = dice(entries.length);
    return altered(entries, entries.with(at, edit(entries[at] ?? '', { time: '2026-12-24T00:00:00.000Z' })), signer, dice, at);
  },
  delete: (entries, signer, dice) => {
    const at = dice(entries.length - 1);
    return altered(entries, entries.toSpliced(at, 1), signer, dice, at);
  },
  insert: (entries, signer, dice) => {
    const at = dice(entries.length);
    return altered(entries, entries.toSpliced(at, 0, edit(entries[at] ?? '', { action: 'device.list' })), signer, dice, at);
  },
  swap: (entries, signer, dice) => {
    const at = dice(entries.length - 1);
    const other = at + 1 + dice(entries.length - at - 1);
    return altered(entries, entries.with(at, entries[other] ?? '').with(other, entries[at] ?? ''), signer, dice, at);
  },
  duplicate: (entries, signer, dice) => {
    const at = dice(entries.length);
    return altered(entries, entries.toSpliced(at, 0, entries[at] ?? ''), signer, dice, at + 1);
  },
  'cut the tail': (entries, signer, dice) => {
    const left = 1 + dice(entries.length - 1);
    const kept = entries.slice(0, left);
    return { files: exportOf(kept, signed(kept, signer)), heads: [signed(entries, signer)], first: left, needsHead: true };
  },
  'cut the head': (entries, signer, dice) => {
    const gone = 1 + dice(entries.length - 1);
    return { files: exportOf(entries.slice(gone), signed(entries, signer)), heads: [], first: 0 };
  },
  'rewrite the whole log with new hashes': (entries, signer, dice) => {
    const at = dice(entries.length);
    const forged = [...entries.slice(0, at), ...entries.slice(at).map((entry) => edit(entry, { outcome: 'refused' }))];
    return { files: exportOf(forged, signed(entries, signer)), heads: at > 0 ? [signed(entries.slice(0, at), signer)] : [], first: at };
  },
  'replace a signature': (entries, signer) => ({
    files: exportOf(entries, signed(entries, new Signer())),
    heads: [signed(entries, signer)],
  }),
  // With the key, as only a copied token has it: a second history from some entry on.
  fork: (entries, signer, dice) => {
    const at = dice(entries.length);
    const other = entriesOf(entries.length, dice, entries.slice(0, at), 'fork');
    const heads = [signed(entries, signer), ...(at > 0 ? [signed(entries.slice(0, at), signer)] : [])];
    return { files: exportOf(other, signed(other, signer)), heads, first: at, needsHead: true };
  },
  'replace a checkpoint': (entries, signer, dice) => {
    const left = 1 + dice(entries.length - 1);
    // An older one, replayed over the same files: they no longer are what it speaks of, or (all replayed) only a head can tell.
    const files = exportOf(entries, signed(entries.slice(0, left), signer));
    return { files, heads: [signed(entries, signer)], first: left };
  },
};

export const verdictOn = (files: Files, signer: Signer, heads: readonly string[] = []): Promise<Verdict> =>
  verifyExport(sourceOf(files), { sha256, verify: verifyByWebCrypto, key: signer.key, heads });

export const firstBad = (damages: readonly Damage[]): number | undefined => damages.find(({ index }) => index !== undefined)?.index;

/** What is wrong with the verifier, in words: nothing, for a sound one. */
export async function faultsOf(kind: string, dice: Dice, signer: Signer): Promise<string[]> {
  const entries = entriesOf(2 + dice(700), dice);
  const { files, heads, first, needsHead } = (TAMPERINGS[kind] as Tamper)(entries, signer, dice); // one of its own names
  const faults: string[] = [];
  const { damages } = await verdictOn(files, signer, heads);
  if (damages.length === 0) faults.push(`${kind}: not found in ${entries.length} entries`);
  else if (first !== undefined && firstBad(damages) !== first)
    faults.push(`${kind}: the first bad entry of ${entries.length} is ${first}, named was ${firstBad(damages)} (${damages[0]?.kind})`);
  if (needsHead) {
    const alone = await verdictOn(files, signer);
    if (alone.damages.length > 0 || !/cannot be excluded/.test(alone.cannotExclude))
      faults.push(`${kind}: without a head it does not say what it cannot exclude`);
  }
  return faults;
}

export async function falseAlarm(dice: Dice, signer: Signer): Promise<string | undefined> {
  const entries = entriesOf(1 + dice(700), dice);
  const heads = [1 + dice(entries.length), entries.length].map((size) => signed(entries.slice(0, size), signer));
  const { damages } = await verdictOn(exportOf(entries, signed(entries, signer)), signer, heads);
  return damages.length > 0 ? `a clean log of ${entries.length} entries: ${damages[0]?.words}` : undefined;
}
