import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { newId, type SqlValue, type Storage } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

const ROWS = 20_000;
const TOGETHER = 200;
const COLUMNS = [
  'id',
  'version',
  'employee',
  'profile',
  'suite',
  'bits',
  'state',
  'mode',
  'kek',
  'public_key_digest',
  'public_key',
  'wrapped',
  'mac',
  'created',
];

/** Bytes of SubjectPublicKeyInfo and of the AES-KWP-wrapped PKCS#8, as SoftHSM makes them. */
const SIZES = [
  { bits: 2048, spki: 294, wrapped: 1224 },
  { bits: 3072, spki: 422, wrapped: 1808 },
  { bits: 4096, spki: 550, wrapped: 2384 },
];

async function fill(storage: Storage, { bits, spki, wrapped }: (typeof SIZES)[number]): Promise<void> {
  const kek = newId();
  const values = (count: number, width: number) =>
    Array(count)
      .fill(`(${Array(width).fill('?').join(', ')})`)
      .join(', ');
  for (let done = 0; done < ROWS; done += TOGETHER) {
    const people = Array.from({ length: TOGETHER }, newId);
    const keys = people.flatMap((employee): SqlValue[] => [
      ...[newId(), 1, employee, 'v1', 'rsa', bits, 'active', 'deliver', kek],
      ...[randomBytes(32), randomBytes(spki), randomBytes(wrapped), randomBytes(32), 1795500000000],
    ]);
    await storage.write(async (unit) => {
      await unit.run(
        `INSERT INTO employees (id, state, created) VALUES ${values(TOGETHER, 3)}`,
        people.flatMap((id) => [id, 'active', 1]),
      );
      await unit.run(`INSERT INTO keys (${COLUMNS.join(', ')}) VALUES ${values(TOGETHER, COLUMNS.length)}`, keys);
    });
  }
}

/** Bytes that the table and its indexes take on disk. */
async function stored(storage: Storage, kind: 'sqlite' | 'postgres'): Promise<number> {
  const sql =
    kind === 'sqlite'
      ? "SELECT sum(pgsize) AS n FROM dbstat WHERE name LIKE 'keys%' OR name LIKE 'sqlite_autoindex_keys%'"
      : "SELECT pg_total_relation_size('keys') AS n";
  return (await storage.one<{ n: number }>(sql))?.n ?? 0;
}

describe('a million keys cost at most 1.4 times their payload', () => {
  eachDatabase((open, kind) => {
    test.each(SIZES)(
      'RSA-$bits: table and all its indexes against the bytes of the values in it',
      async (size) => {
        const { storage } = await open();
        await fill(storage, size);
        // Text and blobs count their bytes, each whole number eight.
        const lengths = COLUMNS.map((column) => (['version', 'bits', 'created'].includes(column) ? '8' : `length(${column})`)).join(' + ');
        const { payload } = (await storage.one<{ payload: number }>(`SELECT sum(${lengths}) AS payload FROM keys`)) ?? { payload: 0 };
        const ratio = (await stored(storage, kind)) / payload;
        expect(ratio).toBeGreaterThan(1);
        expect(ratio).toBeLessThanOrEqual(1.4);
      },
      60_000,
    );
  });
});
