import type { RowSeal } from '../access/index.js';
import type { Storage } from '../foundation/index.js';
import type { Token, TokenKeyInfo } from '../tokens/index.js';
import { formerToken } from './former-token.js';
import type { KekRotation } from './kek-rotation.js';

/** What was replaced and still stands, because nobody has destroyed it yet. */
export type Former = (
  | /** Keys of the token that others of their name took over from: `numbers`, oldest first. */
  { kind: 'token-key'; name: TokenKeyInfo['name']; numbers: number[] }
  /** The key-encryption keys before `name`, which nothing is under any more. */
  | { kind: 'kek'; name: string }
  /** The token of this label, which a migration left with every key in it. */
  | { kind: 'token'; name: string }
) & {
  /** Since when, in milliseconds since 1970; absent where nobody knows. */
  since?: number;
};

/** Rotations are complete when what they replaced is gone: what still waits for two persons to say so. */
export class FormerKeys {
  constructor(
    private readonly parts: {
      storage: Storage;
      seal: RowSeal;
      token: Pick<Token, 'tokenKeys'>;
      kek: Pick<KekRotation, 'finished'>;
      /** Label of the token that is worked with. */
      label: string;
    },
  ) {}

  /** Rejects with `former-token-forged`, and with the token's and the database's faults. */
  async list(): Promise<Former[]> {
    const { storage, seal, kek, label } = this.parts;
    const found: Former[] = [];
    const left = await formerToken({ storage, seal }, label);
    if (left) found.push({ kind: 'token', name: left.from.label, since: left.time });
    const finished = await kek.finished();
    if (finished) found.push({ kind: 'kek', name: finished.to, since: finished.since });
    for (const { name, former, since: taken } of await this.parts.token.tokenKeys())
      if (former.length > 0) found.push({ kind: 'token-key', name, numbers: former, ...(taken === undefined ? {} : { since: taken }) });
    return found;
  }
}
