import { once } from 'node:events';
import yazl from 'yazl';
import { type EvidenceLine, type EvidenceManifest, type EvidenceProofs, spelled, successionPath } from '../../codec/audit-log/index.js';
import { parseCheckpoint, parseNote, toBase64 } from '../../codec/merkle/index.js';
import { type AuditActor, type AuditLog, base64url, type Clock, Fault, type Json, type Storage, sha256 } from '../../foundation/index.js';
import { AuditReader, type LogEntry } from '../audit-reader.js';
import type { Checkpoints } from '../checkpoints.js';
import type { LogBook } from '../log-book.js';
import type { AuditSearch, SearchFilter } from '../search/audit-search.js';
import { coverPages } from './cover.js';

export interface EvidenceParts {
  storage: Storage;
  audit: AuditLog;
  clock: Clock;
  search: AuditSearch;
  checkpoints: Pick<Checkpoints, 'publish'>;
  book: LogBook;
  /** What is in force now, without secrets. */
  policy: () => Promise<Json>;
  /** The log's key as `audit.pub` has it: on the cover, for people to compare; whoever verifies has it by another way. */
  key: () => string;
}

/** Entries of one pack: its answer is one JSON value, some 4 MB. */
const MOST = 2_000;
const PAGE = 500;

/**
 * Packs entries with what proves them: whoever holds the log's key can verify the pack without this appliance, every byte of it. What no tree covers
 * (cover, policy, values) is covered by the manifest, and the manifest by an entry that the pack ends with.
 */
export class EvidenceDesk {
  readonly #reader: AuditReader;

  constructor(private readonly parts: EvidenceParts) {
    this.#reader = new AuditReader(parts.storage);
  }

  /** @returns the ZIP. Rejects with `evidence-empty`, `evidence-too-large`. */
  async pack(filter: SearchFilter, question: Json, by: AuditActor): Promise<{ name: string; entries: number; seal: number; zip: Buffer }> {
    const { storage, audit, clock, checkpoints, book } = this.parts;
    const now = clock.now();
    const entries = await this.#found(filter);
    const values = await this.#values(entries);
    const files = new Map<string, Buffer>();
    const bodies = await this.#bodies(entries);
    files.set('entries.jsonl', Buffer.from(entries.map(({ index }) => `${spelled(line(index, bodies, values))}\n`).join('')));
    files.set('policy.json', Buffer.from(`${JSON.stringify(await this.parts.policy(), undefined, 2)}\n`));
    const facts = { question, entries, by, made: now.toISOString(), key: this.parts.key() };
    files.set('cover.pdf', Buffer.from(await coverPages(facts)));
    files.set('README.txt', Buffer.from(README));
    const manifest: EvidenceManifest = {
      v: 1,
      files: Object.fromEntries([...files].map(([path, bytes]) => [path, sha256(bytes).toString('base64')])),
    };
    const written = Buffer.from(spelled(manifest));
    const receipt = await storage.write((unit) =>
      audit.append(unit, {
        action: 'audit.evidence',
        outcome: 'done',
        actor: by,
        facts: { manifest: base64url(sha256(written)), entries: entries.length },
      }),
    );
    await checkpoints.publish();
    const checkpoint = await book.checkpoint();
    const size = parseCheckpoint(parseNote(checkpoint)?.text ?? '')?.size ?? 0;
    if (size <= receipt.index) throw new Fault('unavailable', 'audit-unavailable', 'the log could not be signed up to this pack', 2);
    files.set('manifest.json', written).set('checkpoint', Buffer.from(checkpoint));
    files.set('proofs.json', Buffer.from(spelled(await this.#proofs(entries, receipt.index, size, files))));
    const name = `evidence-${now.toISOString().slice(0, 19).replaceAll(':', '')}.zip`;
    return { name, entries: entries.length, seal: receipt.index, zip: await zipped(files, now) };
  }

  async #found(filter: SearchFilter): Promise<LogEntry[]> {
    const found: LogEntry[] = [];
    for (let before: number | undefined; ; ) {
      const page = await this.parts.search.look(filter, { before, count: PAGE });
      found.push(...page.entries);
      if (found.length > MOST)
        throw new Fault(
          'conflict',
          'evidence-too-large',
          `more than ${MOST} entries: ask for fewer, or give out the whole log (ekms audit export)`,
        );
      if (page.next === undefined) break;
      before = page.next;
    }
    if (found.length === 0) throw new Fault('not-found', 'evidence-empty', 'no entry is as asked for');
    return found.reverse();
  }

  /** The very texts that the leaves cover. */
  async #bodies(entries: readonly LogEntry[]): Promise<Map<number, string>> {
    const bodies = new Map<number, string>();
    for (const { index } of entries) {
      const [row] = await this.#reader.stored(index, 1);
      if (row?.idx === index) bodies.set(index, row.body);
    }
    return bodies;
  }

  async #values(entries: readonly LogEntry[]): Promise<Map<number, EvidenceLine['values']>> {
    const values = new Map<number, EvidenceLine['values']>();
    for (const { index } of entries)
      values.set(
        index,
        (await this.#reader.values(index, index)).map(({ name, salt, value }) => ({
          name,
          salt: Buffer.from(salt).toString('base64'),
          value,
        })),
      );
    return values;
  }

  /** Adds the former checkpoints to `files`. */
  async #proofs(entries: readonly LogEntry[], seal: number, size: number, files: Map<string, Buffer>): Promise<EvidenceProofs> {
    const { tiles } = this.parts.book;
    const proofs: EvidenceProofs = { v: 1, size, seal: { index: seal, entry: '' }, inclusion: {}, consistency: {} };
    const [row] = await this.#reader.stored(seal, 1);
    proofs.seal.entry = row?.body ?? '';
    for (const index of [...entries.map((entry) => entry.index), seal])
      proofs.inclusion[index] = (await tiles.inclusion(index, size)).map(toBase64);
    for (const [n, note] of (await this.parts.book.successions()).entries()) files.set(successionPath(n + 1), Buffer.from(note));
    for (const { size: at, note } of await this.parts.book.formerCheckpoints()) {
      if (at >= size) continue;
      files.set(`checkpoints/${at}`, Buffer.from(note));
      proofs.consistency[at] = (await tiles.consistency(at, size)).map(toBase64);
    }
    return proofs;
  }
}

const line = (index: number, bodies: Map<number, string>, values: Map<number, EvidenceLine['values']>): EvidenceLine => ({
  index,
  entry: bodies.get(index) ?? '',
  values: values.get(index) ?? [],
});

async function zipped(files: ReadonlyMap<string, Buffer>, time: Date): Promise<Buffer> {
  const zip = new yazl.ZipFile();
  for (const [path, bytes] of files) zip.addBuffer(bytes, path, { mtime: time, mode: 0o100600 });
  const pieces: Buffer[] = [];
  zip.outputStream.on('data', (piece: Buffer) => pieces.push(piece));
  const ended = once(zip.outputStream, 'end');
  zip.end();
  await ended;
  return Buffer.concat(pieces);
}

const README = `Evidence out of the audit log of an EKMS appliance.

cover.pdf       what was asked for, for people
entries.jsonl   the entries found, as they were logged, with the personal values that their digests stand for
policy.json     what was in force when the pack was made
proofs.json     that each entry stands in the signed log (RFC 9162), and the entry that seals this pack
manifest.json   digests of the files above; its own digest stands in the sealing entry
checkpoint      the signed head of the log (C2SP); checkpoints/ former ones, with proofs that the log only grew

To verify: unpack into an empty folder, and have the log's key (audit.pub) from the organisation by another way, then
  ekms audit verify --evidence FOLDER --key audit.pub
or open the verifier's page, which needs no appliance either.
`;
