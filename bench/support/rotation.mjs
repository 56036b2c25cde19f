import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setInterval } from 'node:timers';
import Database from 'better-sqlite3';
import { askAppliance } from '../../dist/src/commands/ask-appliance.js';
import { quantile } from './figures.mjs';
import { appliance, generator } from './processes.mjs';

/** Milliseconds between two times that kept deliveries are deleted, so that the token makes most of what is asked for. */
const FORGET = 200;
const CALM_SECONDS = 6;
const ROUND_SECONDS = 2;

/**
 * Begins a rotation of the KEK on `home` and kills the appliance in it `kills` times, with devices asking for their keys before, meanwhile and afterwards. Nothing is asked in the moment
 * of a kill: what was asked then is no refusal.
 * @param at gives where in the n-th stretch of the work a kill falls, 0 to 1
 * @returns {Promise<{ asked: number, refused: number, killed: number, keys: number, rate: number, calm: number, meanwhile: number, server: object }>}
 *   `calm`, `meanwhile`: p99 in ms; `rate`: keys per second under that load; `server`: still up
 */
export async function rotateUnderRetrievals({ home, devices, clients, kills, at = () => 1 }) {
  const ca = readFileSync(join(home, 'ca.pem'), 'utf8');
  const ask = async (act) => (await askAppliance(home, act, {})).value;
  const askers = (port) => generator({ port, path: '/v1/keys', ca, devices });
  const database = new Database(join(home, 'ekms.db'), { timeout: 5000 });
  // Without a wait for the disk, during which the appliance could not write: what is measured is the appliance, not this.
  database.pragma('synchronous = OFF');
  const forget = setInterval(() => database.exec('DELETE FROM deliveries'), FORGET);
  try {
    let server = await appliance(home);
    let load = await askers(server.port);
    await load.run(clients, ROUND_SECONDS);
    const calm = (await load.run(clients, CALM_SECONDS)).latencies;
    const keys = (await ask('kek.rotate')).left;
    const latencies = [];
    let [refused, asked, killed, busy] = [0, 0, 0, 0];
    let next = keys * (1 - at() / (kills + 1));
    for (;;) {
      const began = performance.now();
      const { left } = await ask('kek.status');
      if (left === 0) break;
      const round = await load.run(clients, 0.25);
      busy += performance.now() - began;
      latencies.push(...round.latencies);
      asked += round.count;
      for (const [status, count] of Object.entries(round.statuses)) if (status !== '200') refused += count;
      if (killed === kills || left > next) continue;
      await load.stop();
      await server.kill();
      killed++;
      next = keys * (1 - (killed + at()) / (kills + 1));
      server = await appliance(home);
      load = await askers(server.port);
      await load.run(clients, 0.25);
    }
    // On both sides, for the machine may have been busier by the end.
    calm.push(...(await load.run(clients, CALM_SECONDS)).latencies);
    await load.stop();
    const rate = (keys / busy) * 1000;
    return { asked, refused, killed, keys, rate, calm: quantile(calm, 0.99), meanwhile: quantile(latencies, 0.99), server };
  } finally {
    clearInterval(forget);
    database.close();
  }
}
