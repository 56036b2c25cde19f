import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** Entries before a point that an entry names may go; all others are kept as before. */
export class AuditRetention1795556000000 implements MigrationInterface {
  readonly name = 'AuditRetention1795556000000';

  async up(runner: QueryRunner): Promise<void> {
    const { whole, table } = columnsOf(runner);
    // One row once something was pruned: `until` is the first entry that is kept, a multiple of 256.
    await runner.query(`CREATE TABLE audit_pruned (id INT PRIMARY KEY CHECK (id = 1), until ${whole} NOT NULL) ${table}`);
    const statements = runner.dataSource.options.type === 'postgres' ? POSTGRES : SQLITE;
    for (const statement of statements) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from retention: restore the backup');
  }
}

const POINT = 'COALESCE((SELECT until FROM audit_pruned WHERE id = 1), 0)';
const SQLITE = [
  'DROP TRIGGER audit_entries_no_delete',
  `CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON audit_entries WHEN OLD.idx >= ${POINT}
     BEGIN SELECT RAISE(ABORT, 'rows of audit_entries are kept'); END`,
];
const POSTGRES = [
  'DROP TRIGGER audit_entries_kept ON audit_entries',
  'CREATE TRIGGER audit_entries_kept BEFORE UPDATE OR TRUNCATE ON audit_entries FOR EACH STATEMENT EXECUTE FUNCTION audit_entries_kept()',
  `CREATE FUNCTION audit_entries_pruned() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN IF OLD.idx >= ${POINT} THEN RAISE EXCEPTION 'rows of audit_entries are kept'; END IF; RETURN OLD; END $$`,
  'CREATE TRIGGER audit_entries_pruned BEFORE DELETE ON audit_entries FOR EACH ROW EXECUTE FUNCTION audit_entries_pruned()',
];
