import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { base64url, sha256 } from '../foundation/index.js';
import { syncFolder } from '../storage/index.js';

const shape = z.strictObject({
  type: z.literal('ekms-backup-pages'),
  v: z.literal(1),
  /** Id, digest and name of the backup that has these pages, with those it builds on. */
  backup: z.string(),
  digest: z.string(),
  name: z.string(),
  migrations: z.array(z.string()),
  tables: z.array(z.string()),
});
export type PagesOf = Omit<z.output<typeof shape>, 'type' | 'v'>;

const DIGEST = 32;

/** The digests of a backup's pages: all that the next one must know of it. In the appliance's own folder, for they say which rows are alike (docs/formats/backup.md). */
export class KeptPages {
  constructor(private readonly path: string) {}

  /** In place of those of the backup before. */
  async keep(of: PagesOf, digests: readonly Buffer[]): Promise<void> {
    const fresh = `${this.path}.new`;
    await rm(fresh, { force: true });
    const file = await open(fresh, 'wx', 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ type: 'ekms-backup-pages', v: 1, ...of })}\n`);
      await file.writeFile(Buffer.concat(digests));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(fresh, this.path);
    await syncFolder(dirname(this.path));
  }

  /** Undefined where there are none, or they cannot be read. */
  async read(): Promise<{ of: PagesOf; pages: string; has(digest: Buffer): boolean } | undefined> {
    const bytes = await readFile(this.path).catch(() => undefined);
    const lf = bytes?.indexOf(0x0a) ?? -1;
    if (!bytes || lf < 0) return undefined;
    const of = shape.safeParse(json(bytes.subarray(0, lf)));
    const digests = bytes.subarray(lf + 1);
    if (!of.success || digests.length % DIGEST !== 0) return undefined;
    const { type: _, v: __, ...known } = of.data;
    const all = new Set<string>();
    for (let at = 0; at < digests.length; at += DIGEST) all.add(digests.toString('latin1', at, at + DIGEST));
    return { of: known, pages: pagesDigest([digests]), has: (digest) => all.has(digest.toString('latin1')) };
  }
}

/** What the appliance states of a backup's pages. */
export const pagesDigest = (digests: readonly Buffer[]): string => base64url(sha256(Buffer.concat(digests)));

function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}
