import { type KeyChain, keysOfLog, type NoteKey, type Sha256, type VerifySignature } from '../merkle/index.js';

/** An export, wherever it lies (docs/formats/audit-export.md). */
export interface ExportSource {
  read(path: string): Promise<Uint8Array | undefined>;
  /** Every file there is. */
  paths(): Promise<string[]>;
}

/** Where an export or a pack has what both keys of its log signed when one took over from the other, counted from 1. */
export const successionPath = (n: number): string => `successions/${n}`;

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The keys of the log, as the given one leads to them; every note there is has to lead to one. `wrong`: in words, where one does not. */
export async function keysOfExport(
  source: ExportSource,
  { sha256, verify, key }: { sha256: Sha256; verify: VerifySignature; key: NoteKey },
): Promise<{ keys: KeyChain; paths: string[]; wrong?: string }> {
  const paths = (await source.paths()).filter((path) => path.startsWith('successions/'));
  const notes: string[] = [];
  for (let n = 1; n <= paths.length; n++) notes.push(await text(source, successionPath(n)));
  const keys = await keysOfLog(sha256, verify, key, notes);
  const led = keys.length - 1;
  return {
    keys,
    paths,
    ...(led === paths.length ? {} : { wrong: `of ${paths.length} successions ${led} were signed by keys of this log` }),
  };
}

async function text(source: ExportSource, path: string): Promise<string> {
  try {
    return utf8.decode(await source.read(path));
  } catch {
    return '';
  }
}
