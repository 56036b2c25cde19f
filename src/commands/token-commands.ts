import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Argument, type Command } from 'commander';
import { Fault } from '../foundation/index.js';
import type { CommandParts } from './command-parts.js';

const FILE = '/etc/ekms/token.yaml';
interface Where {
  settings: string;
}

/** No other takes over from these: docs/adr/0099. */
const OF_THE_CEREMONY = ['records', 'seal'] as const;
const notRotatable = (name: string) =>
  new Fault(
    'conflict',
    'key-not-rotatable',
    `the key “${name}” is as old as the ceremony and no other takes over from it: whoever had it could have made what a new one would seal. A move to another token takes it along. ` +
      'Where it is suspected, a new appliance takes over people and former keys: docs/operations/rotation.md, “The record key and the sealing key”',
  );

/** The token process as a unit and user of its own: everything here but `request` is for that user. */
export function tokenCommands(ekms: Command, { home, installation, print, does }: CommandParts): void {
  const { root } = installation;
  const token = ekms.command('token').description('the token process, where it runs as a user of its own');
  const entry = join(root, 'dist/programs/tokens/process/main.js');
  token
    .command('serve')
    .description('become the token process')
    .option('--settings <file>', 'its settings', FILE)
    .action(({ settings }: Where) => become(entry, 'serve', settings));
  token
    .command('request')
    .description('what the token process must know to make the authorities of this home; for ekms token init')
    .option('--organisation <name>', 'name in the authorities’ certificates')
    .action(async ({ organisation }: { organisation?: string }) => {
      const { tokenRequest } = await import('./token-request.js');
      const { begunCeremony } = await import('./ceremony.js');
      const { loadConfiguration } = await import('../configuration/index.js');
      const ceremony = begunCeremony(home());
      print({
        ...tokenRequest(loadConfiguration(home()), organisation ?? ceremony?.organisation),
        ...(ceremony ? { custody: ceremony.plan } : {}),
      });
    });
  token
    .command('init')
    .description('make token, key-encryption key and authorities from what ekms token request says, which is read from standard input')
    .option('--settings <file>', 'its settings', FILE)
    .option('--pin-file <file>', 'where the new PIN is written, for sealing; needed unless the settings name a file')
    .option('--shares <folder>', 'where the custodians’ shares are written, after ekms ceremony has said who they are')
    .action(({ settings, pinFile = '', shares = '' }: Where & { pinFile?: string; shares?: string }) =>
      become(entry, 'init', settings, pinFile, shares),
    );
  const pin = token.command('pin').description('the PIN of the token');
  pin
    .command('change')
    .description('give the token a new PIN; the appliance, or the token’s own unit, must be stopped')
    .option('--settings <file>', 'for the token process’s own user: its settings')
    .option('--new-pin-file <file>', 'with --settings: a new file, to be sealed by deploy/seal-pin and deleted')
    .action(async ({ settings, newPinFile }: { settings?: string; newPinFile?: string }) => {
      if (settings !== undefined) {
        if (newPinFile === undefined) throw new Fault('malformed', 'pin-file', 'say where the new PIN is written: --new-pin-file');
        return become(entry, 'pin', settings, newPinFile);
      }
      const { changePin } = await import('./change-pin.js');
      print(await changePin(home(), installation));
    });
  token
    .command('keys')
    .description('which keys the appliance signs with, and which of them were replaced')
    .action(() => does('token.keys')({}));
  const names = (...more: string[]) => new Argument('<name>').choices(['delivery', 'mail', ...more]);
  token
    .command('rotate')
    .description('make the next key of this name and put it into service at once')
    .addArgument(names(...OF_THE_CEREMONY))
    .action((name: string) => {
      if (OF_THE_CEREMONY.some((each) => each === name)) throw notRotatable(name);
      return does('token.rotate')({ name });
    });
  token
    .command('retire')
    .description('destroy the keys of this name that were replaced')
    .addArgument(names('audit'))
    .action((name: string) => does('token.retire')({ name }));
  token
    .command('migrate')
    .description('move every key to another token, after the plan was shown; the appliance must be stopped')
    .requiredOption('--label <label>', 'label of the new token')
    .option('--module <file>', 'its PKCS#11 library; the same without')
    .option('--profile <name>', 'its profile; the same without')
    .requiredOption('--share <file...>', 'a file with the line of one share')
    .option('--yes', 'go on without being asked', false)
    .action(
      async ({
        label,
        module,
        profile,
        share,
        yes,
      }: {
        label: string;
        module?: string;
        profile?: string;
        share: string[];
        yes: boolean;
      }) => {
        if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/.test(label))
          throw new Fault('malformed', 'token-label', 'a label has up to 32 letters, digits, dots, hyphens and underscores');
        const { migrate } = await import('./migrate-token.js');
        const { readShare } = await import('./restore-token.js');
        const agree = async (plan: string[]) => {
          for (const line of plan) console.error(line);
          return yes || (process.stdin.isTTY && /^y(es)?$/i.test(await readLine('Go on? [no] ')));
        };
        const to = { label, ...(module ? { module: resolve(module) } : {}), ...(profile ? { profile } : {}) };
        const { keys, pairs } = await migrate({ home: home(), to, shares: share.map(readShare), agree, say: console.error }, installation);
        print(`the appliance works with the token ${label}: ${keys} keys and ${pairs} pairs were opened under it`);
      },
    );
  token
    .command('destroy-former')
    .description('destroy the token that a migration left, once a backup was made since')
    .action(() => does('token.destroy-former')({}));
  ekms
    .command('tls')
    .description('TLS keys of the listeners')
    .command('renew')
    .description('make new ones at once')
    .action(() => does('tls.renew')({}));
  token
    .command('reissue')
    .description('give new custodians their shares, after ekms custody permit; ekms custody request says on standard input who they are')
    .option('--settings <file>', 'its settings', FILE)
    .requiredOption('--share <file...>', 'a file with the line of one share that is in force')
    .requiredOption('--shares <folder>', 'empty folder for the new shares')
    .action(({ settings, share, shares }: Where & { share: string[]; shares: string }) =>
      become(entry, 'reissue', settings, shares, ...share),
    );
  token
    .command('restore <backup>')
    .description('make token and journal again from a backup and M shares; ekms restore --file-key does the rest')
    .option('--settings <file>', 'its settings', FILE)
    .option('--pin-file <file>', 'where the new PIN is written, for sealing; needed unless the settings name a file')
    .requiredOption('--share <file...>', 'a file with the line of one share')
    .option('--base <file...>', 'files that an incremental backup builds on, where they are not in its folder', [])
    .option('--ca <file>', 'root certificate (ca.pem) that the backup must come from')
    .option('--escrow <folder>', 'the second place: its custody package, where it knows a key-encryption key that the backup does not')
    .requiredOption(
      '--file-key <file>',
      'new file for the key of this one backup, with what it builds on; hand it to the appliance’s user and delete it',
    )
    .option('--nothing-lost', 'the log did not grow after this backup; to be said to ekms restore as well', false)
    .action(
      async (
        backup: string,
        of: Where & {
          pinFile?: string;
          share: string[];
          base: string[];
          ca?: string;
          escrow?: string;
          fileKey: string;
          nothingLost: boolean;
        },
      ) => {
        const { restoreToken, readShare } = await import('./restore-token.js');
        const { settings, fileKey, share, base, ca, escrow, pinFile, nothingLost } = of;
        await restoreToken(
          {
            ...{ settings, backup: resolve(backup), shares: share.map(readShare), bases: base, fileKey: resolve(fileKey), nothingLost },
            ...(pinFile ? { pinFile: resolve(pinFile) } : {}),
            ...(escrow ? { escrow: resolve(escrow) } : {}),
            ...(ca === undefined ? {} : { root: new X509Certificate(readFileSync(ca)).raw }),
          },
          installation,
        );
        print(
          `the token is made again; start it, then: ekms restore ${[backup, ...(base.length > 0 ? ['--base', ...base] : [])].join(' ')} --file-key ${fileKey}`,
        );
      },
    );
  token
    .command('unseal')
    .description('give the PIN to a token process that was started without; it is read from the terminal or from standard input')
    .option('--settings <file>', 'its settings', FILE)
    .action(async ({ settings }: Where) => {
      const { tokenSocket, unseal } = await import('../tokens/index.js');
      await unseal(tokenSocket(settings), await readSecretLine('PIN of the token: '));
      console.error('unsealed');
    });
}

/** The same process goes on as the token process: what supervises it sees one process, and nothing of the command line stays beside the PIN. */
function become(entry: string, ...args: string[]): void {
  if (!process.execve)
    throw new Fault('misconfigured', 'node-too-old', 'this Node cannot become another program: use the one that EKMS brings');
  // As in TokenChild: Node's own settings could load code or open a debugger beside the PIN.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')));
  process.execve(process.execPath, [process.execPath, '--disable-sigusr1', entry, ...args], env);
}

async function readLine(prompt: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  return new Promise((resolve) =>
    lines.question(prompt, (answer) => {
      lines.close();
      resolve(answer);
    }),
  );
}

/** One line, from a terminal without showing it. Secrets come neither from arguments nor from the environment. */
async function readSecretLine(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  const lines = createInterface({ input: stdin, terminal: false });
  const terminal = stdin.isTTY;
  const interrupted = () => {
    echo(true);
    process.exit(130);
  };
  if (terminal) {
    stderr.write(prompt);
    echo(false);
    process.once('SIGINT', interrupted);
  }
  try {
    for await (const line of lines) return line;
    throw new Fault('malformed', 'pin-missing', 'there was no PIN on standard input');
  } finally {
    lines.close();
    if (terminal) {
      process.off('SIGINT', interrupted);
      echo(true);
      stderr.write('\n');
    }
  }
}

const echo = (on: boolean): void => void spawnSync('stty', [on ? 'echo' : '-echo'], { stdio: ['inherit', 'ignore', 'ignore'] });
