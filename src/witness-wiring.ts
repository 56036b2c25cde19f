import { readFileSync } from 'node:fs';
import { C2spWitness, FolderWitness, type LogStanding, type LogTree, type TileReader, type Witness, Witnesses } from './audit/index.js';
import type { Configuration } from './configuration.js';
import type { AuditLog, Storage } from './foundation/index.js';
import { auditNoteKey, type Token } from './tokens/index.js';

/** The witnesses that ekms.yaml names. */
export function witnessesOf(
  { witnesses: { readable, ...settings } }: Pick<Configuration, 'witnesses'>,
  parts: {
    storage: Storage;
    audit: AuditLog;
    tree: LogTree;
    tiles: TileReader;
    standing: LogStanding;
    token: Pick<Token, 'auditHead' | 'signingKey'>;
  },
  origin: string,
): Witnesses {
  const { token, ...rest } = parts;
  const witnesses = readable.map((one): Witness => {
    if ('folder' in one) return new FolderWitness(one.name, one.folder, async (of) => auditNoteKey(of, await token.signingKey('audit')));
    const { caFile, ...of } = one;
    return new C2spWitness({ ...of, ca: caFile === undefined ? undefined : readFileSync(caFile, 'utf8') });
  });
  return new Witnesses({ ...rest, origin: async () => (await token.auditHead())?.origin ?? origin }, { ...settings, witnesses });
}
