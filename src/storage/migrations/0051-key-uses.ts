import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A person asks for all entries about their keys. Keys are few and random: each use costs one more page at the append. */
export class KeyUses1795551000000 implements MigrationInterface {
  readonly name = 'KeyUses1795551000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE INDEX IF NOT EXISTS audit_entries_key ON audit_entries (key, idx) WHERE key IS NOT NULL');
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from an index of the log: restore the backup');
  }
}
