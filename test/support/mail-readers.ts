import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A mail program's own key store and decryption: software that knows nothing of EKMS. */
export interface MailReader {
  importKey(p12: string, passphrase: string): void;
  /** @param p7m DER, RFC 5652 */
  decrypt(p7m: string): Buffer;
  close(): void;
}

const run = (program: string, words: string[], input?: string): Buffer =>
  execFileSync(program, words, { input: input ?? '', stdio: ['pipe', 'pipe', 'pipe'], maxBuffer: 64 << 20 });

/** Mozilla's library, as Debian has it: what Thunderbird reads mail with. */
export function openNss(folder: string): MailReader {
  mkdirSync(folder);
  const database = `sql:${folder}`;
  run('certutil', ['-N', '-d', database, '--empty-password']);
  return {
    importKey: (p12, passphrase) => {
      const words = join(folder, 'words');
      writeFileSync(words, `${passphrase}\n`, { mode: 0o600 });
      run('pk12util', ['-i', p12, '-d', database, '-w', words]);
      rmSync(words);
    },
    decrypt: (p7m) => run('cmsutil', ['-D', '-d', database, '-i', p7m]),
    close: () => undefined,
  };
}

/** GnuPG's S/MIME side: what KMail, Claws and Kleopatra read mail with. */
export function openGpgsm(folder: string): MailReader {
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(folder, 'gpg-agent.conf'), 'allow-loopback-pinentry\n');
  const gpgsm = (words: string[], input?: string) =>
    run(
      'gpgsm',
      [
        '--homedir',
        folder,
        '--batch',
        '--disable-crl-checks',
        '--disable-dirmngr',
        '--pinentry-mode',
        'loopback',
        '--passphrase-fd',
        '0',
        ...words,
      ],
      input,
    );
  let passphrase = '';
  return {
    importKey: (p12, words) => {
      passphrase = words;
      gpgsm(['--import', p12], `${words}\n`);
    },
    decrypt: (p7m) => gpgsm(['--decrypt', p7m], `${passphrase}\n`),
    close: () => run('gpgconf', ['--homedir', folder, '--kill', 'all']),
  };
}
