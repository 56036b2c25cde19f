import { randomBytes } from 'node:crypto';
import pg from 'pg';

/** Runs with the address of an empty database of its own in the throw-away cluster that EKMS_TEST_POSTGRES names. */
export async function onNewPostgres<T>(work: (url: string) => Promise<T>): Promise<T> {
  const cluster = process.env['EKMS_TEST_POSTGRES'];
  if (!cluster) throw new Error('EKMS_TEST_POSTGRES is not set');
  const name = `ekms_kills_${randomBytes(6).toString('hex')}`;
  const url = new URL(cluster);
  url.pathname = `/${name}`;
  await sql(cluster, `CREATE DATABASE ${name}`);
  try {
    return await work(url.href);
  } finally {
    await sql(cluster, `DROP DATABASE ${name} WITH (FORCE)`);
  }
}

async function sql(url: string, text: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
