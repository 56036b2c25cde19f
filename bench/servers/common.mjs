import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, size] = process.argv.slice(2);
const file = (name) => readFileSync(join(folder, name));
const text = 'x'.repeat(Number(size) - '{"text":""}'.length);

/** As src/http/listeners.ts has it; here a foreign certificate does not even connect. */
export const tls = () => ({
  key: file('server.key'),
  cert: file('server.pem'),
  ca: file('clients.pem'),
  requestCert: true,
  rejectUnauthorized: true,
  minVersion: 'TLSv1.3',
});

/** Milliseconds, as the appliance's: Node's own five seconds would end connections between two rounds. */
export const KEEP_ALIVE = 75_000;

/** A value whose JSON has that many bytes. */
export const record = () => ({ text });

export function ready(server) {
  server.listen(0, '127.0.0.1', () => console.log(`ready client=https://localhost:${server.address().port}`));
}
