import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The few keys that only a quorum may use are found among all by an index of their own. */
export class QuorumKeys1795585000000 implements MigrationInterface {
  readonly name = 'QuorumKeys1795585000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query("CREATE INDEX keys_quorum ON keys (employee) WHERE mode = 'quorum'");
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX keys_quorum');
  }
}
