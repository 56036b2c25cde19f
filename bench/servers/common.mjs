import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, size] = process.argv.slice(2);
const file = (name) => readFileSync(join(folder, name));

/** As src/http/listeners.ts has it; here a foreign certificate does not even connect. */
export const tls = () => ({ key: file('server.key'), cert: file('server.pem'), ca: file('clients.pem'), requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' });

/** JSON of that many bytes. */
export const body = () => Buffer.from(JSON.stringify('x'.repeat(Number(size) - 2)));

/** Milliseconds, as the appliance's: Node's own five seconds would end connections between two rounds. */
export const KEEP_ALIVE = 75_000;
