import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A server certificate of its own (P-256, as the appliance's) and the authorities whose clients may come. Returns the folder and the PEM that clients trust. */
export function tlsFiles(folder, clientAuthorities) {
  selfSigned(folder, 'server');
  writeFileSync(join(folder, 'clients.pem'), clientAuthorities);
  return { folder, ca: readFileSync(join(folder, 'server.pem'), 'utf8') };
}

/** As the generator wants a device: for benches that need no appliance. */
export function selfSignedClient(folder) {
  selfSigned(folder, 'client');
  return { certificates: [readFileSync(join(folder, 'client.pem'), 'utf8')], identity: readFileSync(join(folder, 'client.key'), 'utf8') };
}

function selfSigned(folder, name) {
  mkdirSync(folder, { recursive: true });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', join(folder, `${name}.key`)];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '7'];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', join(folder, `${name}.pem`), ...subject], { stdio: 'ignore' });
}
