import { execFileSync } from 'node:child_process';
import { createPrivateKey, sign, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A P-384 root, an issuing CA under it and a P-256 mail-signing certificate, made by openssl: the shape that the appliance has. */
export interface MailAuthority {
  folder: string;
  /** PEM, for `-CAfile`. */
  root: string;
  rootPem: string;
  /** DER: leaf, issuing CA. */
  certificates: Buffer[];
  sign: (message: Uint8Array) => Promise<Buffer>;
  /** PEM certificate and key for `localhost`, from the same root. */
  server: { cert: string; key: string };
  remove(): void;
}

const CA = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign', 'subjectKeyIdentifier=hash'];
const REQUEST = '[req]\ndistinguished_name=name\n[name]\n';

export function mailAuthority(from: string): MailAuthority {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-mail-'));
  const openssl = (...words: string[]): Buffer => execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] });
  const certificate = (name: string, curve: string, issuer: string | undefined, ...extensions: string[]): void => {
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', `ec_paramgen_curve:${curve}`, '-out', `${name}.key`);
    writeFileSync(join(folder, 'request.cnf'), REQUEST);
    openssl('req', '-new', '-config', 'request.cnf', '-key', `${name}.key`, '-subj', `/CN=${name}`, '-out', `${name}.csr`);
    writeFileSync(join(folder, 'extensions.cnf'), extensions.join('\n'));
    const by = issuer ? ['-CA', `${issuer}.pem`, '-CAkey', `${issuer}.key`] : ['-signkey', `${name}.key`];
    openssl('x509', '-req', '-in', `${name}.csr`, ...by, '-sha384', '-days', '30', '-extfile', 'extensions.cnf', '-out', `${name}.pem`);
  };
  certificate('root', 'P-384', undefined, ...CA);
  certificate('infrastructure', 'P-384', 'root', ...CA);
  const leaf = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature'];
  certificate('mail', 'P-256', 'infrastructure', ...leaf, 'extendedKeyUsage=emailProtection', `subjectAltName=email:${from}`);
  certificate('server', 'P-256', 'infrastructure', ...leaf, 'extendedKeyUsage=serverAuth', 'subjectAltName=DNS:localhost');
  const pem = (name: string): string => readFileSync(join(folder, name), 'utf8');
  const key = createPrivateKey(pem('mail.key'));
  return {
    folder,
    root: join(folder, 'root.pem'),
    rootPem: pem('root.pem'),
    certificates: ['mail.pem', 'infrastructure.pem'].map((name) => new X509Certificate(pem(name)).raw),
    sign: async (message) => sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' }),
    server: { cert: pem('server.pem') + pem('infrastructure.pem'), key: pem('server.key') },
    remove: () => rmSync(folder, { recursive: true }),
  };
}
