import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A server certificate of its own (P-256, as the appliance's) and the authority whose clients may come. Returns the folder and the PEM that clients trust. */
export function tlsFiles(folder, clientAuthority) {
  mkdirSync(folder, { recursive: true });
  const file = (name) => join(folder, name);
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '7'];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file('server.key'), '-out', file('server.pem'), ...subject], { stdio: 'ignore' });
  writeFileSync(file('clients.pem'), clientAuthority);
  return { folder, ca: file('server.pem') };
}
