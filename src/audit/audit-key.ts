import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { encodeNoteKey } from '../codec/merkle/index.js';
import { auditNoteKey, type Token } from '../tokens/index.js';
import { sha256 } from './log-tree.js';

/** Writes the key that checkpoints are verified by, as C2SP has it, where none lies yet: the first one is remembered, a later one must be given by hand. */
export async function keepAuditKey(file: string, token: Pick<Token, 'auditHead' | 'signingKey'>, origin: string): Promise<void> {
  if (existsSync(file)) return;
  await writeAuditKey(file, token, (await token.auditHead())?.origin ?? origin);
}

/** Writes the key of our cosignatures, for `witnesses.readable` of those whose heads we cosign; none where the token has no Ed25519. */
export async function keepWitnessKey(file: string, token: Pick<Token, 'signingKey'>, name: string): Promise<void> {
  const { type, publicKey } = auditNoteKey(name, await token.signingKey('audit'));
  if (type !== 'ed25519' || existsSync(file)) return;
  writeFileSync(file, `${encodeNoteKey(sha256, { name, type: 'cosignature', publicKey })}\n`, { mode: 0o644, flag: 'wx' });
}

/** The log goes on under another name: the key under the former one is kept beside it. */
export async function renameAuditKey(file: string, token: Pick<Token, 'signingKey'>, name: string): Promise<void> {
  if (existsSync(file)) renameSync(file, `${file}.${Date.now()}`);
  await writeAuditKey(file, token, name);
}

/** The log has another key: each file says it, and the former one is kept beside it. The witness's only where there is one. */
export async function followAuditKey(
  files: KeyFiles,
  token: Pick<Token, 'signingKey'>,
  { log, witness }: { log: string; witness: string },
): Promise<void> {
  const { type, publicKey } = auditNoteKey(log, await token.signingKey('audit'));
  replace(files.audit, encodeNoteKey(sha256, { name: log, type, publicKey }));
  if (type === 'ed25519' && existsSync(files.witness))
    replace(files.witness, encodeNoteKey(sha256, { name: witness, type: 'cosignature', publicKey }));
}

export interface KeyFiles {
  audit: string;
  witness: string;
}

function replace(file: string, text: string): void {
  if (existsSync(file)) {
    if (readFileSync(file, 'utf8').trim() === text) return;
    copyFileSync(file, `${file}.${Date.now()}`);
  }
  rmSync(`${file}.new`, { force: true });
  writeFileSync(`${file}.new`, `${text}\n`, { mode: 0o644, flag: 'wx' });
  renameSync(`${file}.new`, file);
}

async function writeAuditKey(file: string, token: Pick<Token, 'signingKey'>, name: string): Promise<void> {
  writeFileSync(file, `${encodeNoteKey(sha256, auditNoteKey(name, await token.signingKey('audit')))}\n`, { mode: 0o644, flag: 'wx' });
}
