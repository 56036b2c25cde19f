// Fastify or Express: requests per second over mutual TLS 1.3, keep-alive, against bare node:https; with Nest on top too. Usage: see README.md.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { machine, median, ratios, spread } from './support/figures.mjs';
import { bareServer, generator } from './support/processes.mjs';
import { selfSignedClient, tlsFiles } from './support/tls-files.mjs';

const { values: given } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '32' },
    bytes: { type: 'string', default: '9000' },
    /** Folder where `npm install --prefix FOLDER express@5 @nestjs/platform-express@12` was run. Without it, Express is not measured. */
    express: { type: 'string' },
  },
});
const [rounds, seconds, connections] = [given.rounds, given.seconds, given.connections].map(Number);

const folder = mkdtempSync(join(tmpdir(), 'ekms-bench-http-'));
const client = selfSignedClient(folder);
const { ca } = tlsFiles(folder, client.certificates[0]);
const devices = Array.from({ length: connections }, () => client);
const elsewhere = given.express ? [resolve(given.express)] : [];
const candidates = [
  ['bare node:https', 'bare', []],
  ['Fastify', 'fastify', []],
  ['Nest on Fastify', 'nest', []],
];
if (elsewhere.length > 0) candidates.push(['Express', 'express', elsewhere], ['Nest on Express', 'nest', elsewhere]);

console.log(
  `bench/http: ${connections} connections, replies of ${given.bytes} bytes, ${rounds} interleaved rounds of ${seconds} s\n${machine()}\n`,
);
const measured = [];
for (const [name, server, more] of candidates) {
  const running = await bareServer(server, [folder, given.bytes, ...more]);
  const load = await generator({ port: running.port, path: '/v1/keys', ca, devices });
  await load.run(connections, 1);
  measured.push({ name, running, load, rates: [], cpu: [] });
}
for (let round = 0; round < rounds; round++)
  for (const { running, load, rates, cpu } of measured) {
    const [before] = running.cpu();
    const { rate, count, statuses } = await load.run(connections, seconds);
    if (statuses[200] !== count) throw new Error(`answers: ${JSON.stringify(statuses)}`);
    rates.push(rate);
    cpu.push(((running.cpu()[0] - before) / count) * 1000);
  }
for (const { name, running, load, rates, cpu } of measured) {
  const share = median(ratios(rates, measured[0].rates)).toFixed(2);
  console.log(`${name.padEnd(16)} ${spread(rates).padEnd(24)} per second; ${share} of bare; ${median(cpu).toFixed(3)} ms of CPU each`);
  await load.stop();
  await running.stop();
}
if (elsewhere.length === 0) console.log('Express was not measured: give its folder by --express');
rmSync(folder, { recursive: true });
