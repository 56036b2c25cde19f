import type { MigrationInterface, QueryRunner } from 'typeorm';
import { columnsOf } from './columns.js';

/** Who serves from this database: one row a node, with its last sign of life (ms). */
export class Nodes1795559000000 implements MigrationInterface {
  readonly name = 'Nodes1795559000000';

  async up(runner: QueryRunner): Promise<void> {
    const { text, whole, small } = columnsOf(runner);
    await runner.query(`CREATE TABLE nodes (name ${text} PRIMARY KEY, seen ${whole} NOT NULL) ${small}`);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from nodes: restore the backup');
  }
}
