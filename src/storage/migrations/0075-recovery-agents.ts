import type { MigrationInterface, QueryRunner } from 'typeorm';
import { type Columns, columnsOf } from './columns.js';

/**
 * Signatures of agents over a case or over another list of agents, by key or by passkey. `recovery_agents` holds the lists that the token sealed;
 * version 1 is the ceremony's and has no row.
 */
const tables = ({ text, whole, bytes, table, small }: Columns) => [
  `CREATE TABLE recovery_signatures (paper ${text} NOT NULL, agent ${text} NOT NULL, signature ${bytes} NOT NULL, client_data ${bytes}, authenticator_data ${bytes},
     time ${whole} NOT NULL, PRIMARY KEY (paper, agent)) ${small}`,
  'INSERT INTO recovery_signatures (paper, agent, signature, time) SELECT recovery, agent, signature, time FROM recovery_approvals',
  'DROP TABLE recovery_approvals',
  `ALTER TABLE recovery_cases ADD COLUMN told ${whole}`,
  `CREATE TABLE recovery_appointments (id ${text} PRIMARY KEY, appointment ${text} NOT NULL, created ${whole} NOT NULL) ${table}`,
  `CREATE TABLE recovery_agents (version INT PRIMARY KEY, list ${text} NOT NULL, mac ${bytes} NOT NULL, created ${whole} NOT NULL) ${table}`,
];

export class RecoveryAgents1795575000000 implements MigrationInterface {
  readonly name = 'RecoveryAgents1795575000000';

  async up(runner: QueryRunner): Promise<void> {
    for (const statement of tables(columnsOf(runner))) await runner.query(statement);
  }

  async down(): Promise<void> {
    throw new Error('there is no way back from recovery agents: restore the backup');
  }
}
