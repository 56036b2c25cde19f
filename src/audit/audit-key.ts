import { existsSync, writeFileSync } from 'node:fs';
import { encodeNoteKey } from '../codec/merkle/index.js';
import { auditNoteKey, type Token } from '../tokens/index.js';
import { sha256 } from './log-tree.js';

/** Writes the key that checkpoints are verified by, as C2SP has it, where none lies yet: the first one is remembered, a later one must be given by hand. */
export async function keepAuditKey(file: string, token: Pick<Token, 'auditHead' | 'signingKey'>, origin: string): Promise<void> {
  if (existsSync(file)) return;
  const name = (await token.auditHead())?.origin ?? origin;
  writeFileSync(file, `${encodeNoteKey(sha256, auditNoteKey(name, await token.signingKey('audit')))}\n`, { mode: 0o644, flag: 'wx' });
}
