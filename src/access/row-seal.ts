import { createHmac, randomBytes } from 'node:crypto';
import { canonicalJson, type Json, type Storage, sameBytes } from '../foundation/index.js';
import type { Token } from '../tokens/index.js';

const SETTING = 'row-seal';
const CONTEXT = 'row-seal:v1';

/**
 * A MAC over the rows that decide who may do what: administrators, passkeys, sessions, requests. Its key is sealed by the token, so whoever
 * writes the database can neither add an administrator nor change one; old rows that were put back are not seen here.
 */
export class RowSeal {
  constructor(private readonly key: Uint8Array) {}

  /** Opens this appliance's key; the first time, makes it. Rejects with `seal-broken` when it was exchanged, or with the token's faults. */
  static async open(storage: Storage, token: Pick<Token, 'sealBytes' | 'openBytes'>): Promise<RowSeal> {
    const stored = () => storage.one<{ value: string }>('SELECT value FROM settings WHERE name = ?', [SETTING]);
    if (!(await stored())) {
      const sealed = await token.sealBytes(randomBytes(32), CONTEXT);
      // Two nodes that start together end with one key.
      await storage.write((unit) =>
        unit.run('INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING', [SETTING, sealed.toString('base64')]),
      );
    }
    const { value } = (await stored()) ?? { value: '' };
    return new RowSeal(await token.openBytes(Buffer.from(value, 'base64'), CONTEXT));
  }

  /** @param table whose row it is: a MAC of one table is none of another */
  mac(table: string, row: { readonly [column: string]: Json }): Buffer {
    return createHmac('sha256', this.key)
      .update(canonicalJson([table, row]))
      .digest();
  }

  holds(table: string, row: { readonly [column: string]: Json }, mac: Uint8Array): boolean {
    return sameBytes(this.mac(table, row), mac);
  }
}
