import { copyOfLog, exportFolder } from '../audit/index.js';
import type { ExportSource } from '../codec/audit-log/index.js';
import { type FromEscrow, type KnownLog, type OpenBackup, packageBeside, readKnownLog, takeFromEscrow } from '../custody/index.js';
import { Fault, isFault } from '../foundation/index.js';
import type { House } from '../house.js';
import { completed, parsePackage, type SealedPackage, type Token } from '../tokens/index.js';

/** What was said about the log from outside of the backup. */
export interface SaidOfLog {
  /** Checkpoints that somebody remembers. */
  heads?: string[];
  /** Folder of an export of the log that is newer than the backup. Absent: the copy at the second place; false: none, whatever lies there. */
  tail?: string | false;
}

/** The second place as a restore reads it (docs/formats/escrow-journal.md): the copy of the log, the custodians' package, the keys. Without a folder there is none. */
export class RestoreSecondPlace {
  constructor(
    private readonly folder: string | undefined,
    private readonly say: (line: string) => void = () => {},
  ) {}

  /** What is known of the log after the backup; the copy here goes before no export that was named. Throws `tail-damaged`, `head-foreign`. */
  async knownLog({ heads = [], tail }: SaidOfLog, { custody, statement }: OpenBackup): Promise<KnownLog> {
    const read = (of: ExportSource | undefined, isCopy = false) =>
      readKnownLog({ heads, tail: of, isCopy }, custody.package, statement.entries);
    if (typeof tail === 'string') return read(exportFolder(tail));
    if (tail === false || this.folder === undefined) return read(undefined);
    try {
      const copy = copyOfLog(this.folder, statement.head?.origin);
      if (!copy)
        this.say(
          'the second place has no copy of the log: what was taken away since the backup counts again, unless --tail names an export',
        );
      return await read(copy, true);
    } catch (error) {
      if (!isFault(error, 'tail-damaged') && !isFault(error, 'head-foreign')) throw error;
      throw new Fault(
        'conflict',
        'tail-damaged',
        `of the log at the second place: ${error.message}. --tail names another export; --no-tail goes on without, and what was revoked since the backup counts again`,
      );
    }
  }

  /** The custodians' package here, where it is of those of the backup. */
  package({ custody }: Pick<OpenBackup, 'custody'>): SealedPackage | undefined {
    return this.folder === undefined ? undefined : packageBeside(this.folder, custody.package);
  }

  /** Where the token was made by another user, who may not have been told of this place. Throws `token-older`, `custody-package-other`. */
  async requireKnownTo(token: Token): Promise<void> {
    const text = await token.custody();
    if (this.folder === undefined || text === null) return;
    const { package: known } = parsePackage(text);
    const here = packageBeside(this.folder, known)?.package;
    if (here && completed(known, here) !== known)
      throw new Fault(
        'conflict',
        'token-older',
        'the second place knows a key-encryption key or an authority that this token does not: as the token’s user make it again with ekms token restore --escrow, then say this again',
      );
  }

  /** Keys and certificates that came after the backup. */
  async keysInto(house: House): Promise<FromEscrow | undefined> {
    return this.folder === undefined ? undefined : takeFromEscrow(house, this.folder);
  }
}
