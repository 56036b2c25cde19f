import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { Fault } from '../foundation/index.js';
import type { CeremonyPlan } from './ceremony.js';
import type { CeremonyOptions } from './ceremony-questions.js';
import type { CommandParts } from './command-parts.js';
import { importCommands } from './import-commands.js';
import { recoveryCommands } from './recovery-commands.js';
import { transferCommands } from './transfer-commands.js';

const BASES = 'files that an incremental backup builds on, where they are not in its folder';

/** Ceremony, backup, restore and drill: what keeps keys from being lost. */
export function custodyCommands(ekms: Command, parts: CommandParts): void {
  const { home, installation, print, act, does } = parts;
  ekms
    .command('ceremony')
    .description('make an appliance whose keys M of N custodians can bring back; the same command goes on with one that was cut off')
    .option('--custodian <who...>', 'NAME=paper, NAME=age1… or NAME=CERTIFICATE-FILE, one for each share', [])
    .option('--threshold <m>', 'shares that are needed', (text) => small(text), 2)
    .option('--shares <folder>', 'empty folder for shares and minutes, on another medium')
    .option('--recovery-agent <who...>', 'NAME=PUBLIC-KEY-FILE (PEM), who may approve the recovery of a person’s keys', [])
    .option('--recovery-quorum <m>', 'recovery agents that are needed', (text) => small(text), 2)
    .option('--present <name...>', 'who is in the room, for the minutes', [])
    .option('--domain <domain...>', 'mail domain whose people may enrol', [])
    .option('--organisation <name>', 'name in the authorities’ certificates')
    .option('--public-name <name>', 'where devices and browsers reach the appliance, such as ekms.corp.example; cannot be changed later')
    .action(async (how: CeremonyOptions) => {
      const { begunCeremony, ceremony } = await import('./ceremony.js');
      const begun = begunCeremony(home());
      if (begun) console.error(`a ceremony was begun here ${begun.began}`);
      const { askCeremony } = await import('./ceremony-questions.js');
      const isAsked = how.custodian.length === 0 && !begun && !existsSync(join(home(), 'ca.pem')) && process.stdin.isTTY;
      const told = isAsked ? await askCeremony(how, existsSync(join(home(), 'ekms.yaml'))) : how;
      const held = await ceremony(home(), await planOf(told), installation, console.error, told.publicName);
      print(`held: ${held.shares.length} shares and the minutes are in ${held.out}\nminutes: ${held.minutes}`);
      console.error('hand each share to its custodian, then make a backup and drill a restore: ekms backup create; ekms drill');
    });

  const custody = ekms.command('custody').description('who holds the shares');
  const custodians = (command: Command) =>
    command
      .requiredOption('--custodian <who...>', 'NAME=paper, NAME=age1… or NAME=CERTIFICATE-FILE, one for each share')
      .option('--threshold <m>', 'shares that are needed', (text) => small(text), 2);
  custodians(custody.command('permit').description('decide who the custodians are to be; reissue does it within 72 hours')).action(
    async (how: Custodians) => does('custody.permit')({ plan: await custodiansOf(how) }),
  );
  custodians(custody.command('request').description('what ekms token reissue is told of them, where the token is another user’s')).action(
    async (how: Custodians) => print(await custodiansOf(how)),
  );
  custodians(custody.command('reissue').description('give those who were decided on their shares; the appliance must be stopped'))
    .option('--share <file...>', 'a file with the line of one share that is in force; none where ekms token reissue was done', [])
    .requiredOption('--shares <folder>', 'empty folder for new shares and minutes, on another medium')
    .option('--present <name...>', 'who is in the room, for the minutes', [])
    .action(async ({ share, shares, present, ...how }: Custodians & { share: string[]; shares: string; present: string[] }) => {
      const { reissue } = await import('./reissue.js');
      const { readShare } = await import('./restore-token.js');
      const plan = await custodiansOf(how);
      const { minutes } = await reissue({ home: home(), plan, out: resolve(shares), shares: share.map(readShare), present }, installation);
      print(`the new shares and the minutes are in ${resolve(shares)}\nminutes: ${minutes}`);
      console.error(
        'The former shares open no backup that is made from now on. They still open older ones, and copies of the former token-state/custody.json: make a backup, destroy those, and rotate the KEK (ekms kek rotate).',
      );
    });

  const kek = ekms.command('kek').description('the key-encryption key');
  kek
    .command('rotate')
    .description('make a new one and wrap every key under it, in the background')
    .action(() => does('kek.rotate')({}));
  kek
    .command('status')
    .description('how many keys are still under the former one')
    .action(() => does('kek.status')({}));
  kek
    .command('retire')
    .description('destroy the former one, once nothing is under it and a backup was made since')
    .action(() => does('kek.retire')({}));

  recoveryCommands(ekms, parts);
  importCommands(ekms, parts);
  transferCommands(ekms, parts);

  ekms
    .command('escrow')
    .description('the second place for keys (durability: two)')
    .command('prepare <folder>')
    .description('mark a folder on another disk or share as the second place')
    .option('--same-disk', 'for trying it out: accept a folder on the first disk', false)
    .action(async (folder: string, { sameDisk }: { sameDisk: boolean }) => {
      const { prepareEscrow } = await import('../custody/index.js');
      await prepareEscrow(resolve(folder), home(), sameDisk);
      print(`prepared; in ekms.yaml say  durability: two  and  escrow: { directory: ${resolve(folder)} }`);
    });

  const backup = ekms.command('backup').description('backups that only the custodians together can open');
  backup
    .command('create')
    .description('what changed since the backup before, or a full one when that is due (backup.fullEvery)')
    .option('--full', 'a full one in any case', false)
    .action(async ({ full }: { full: boolean }) => {
      const made = (await act('backup.create', { full })) as { needs: string[] }; // what Backups.create gives
      print(made);
      if (made.needs.length > 0) console.error(`A restore of it needs these beside it: ${made.needs.join(', ')}. Copy them together.`);
    });
  backup
    .command('list')
    .description('newest first, with what each needs beside it')
    .action(() => does('backup.list')({}));
  backup
    .command('verify <file>')
    .description('read it, and what it builds on, from end to end against this appliance’s signature')
    .option('--base <file...>', BASES, [])
    .action((file: string, { base }: { base: string[] }) =>
      does('backup.verify')({ file: resolve(file), bases: base.map((path) => resolve(path)) }),
    );

  ekms
    .command('restore <backup>')
    .description('make the appliance again in a blank home, from a backup and M shares')
    .option('--share <file...>', 'a file with the line of one share, as its custodian opened it', [])
    .option('--base <file...>', BASES, [])
    .option('--file-key <file>', 'instead of shares, where the token is another user’s: what ekms token restore wrote')
    .option('--ca <file>', 'root certificate (ca.pem) that the backup must come from')
    .option('--escrow <folder>', 'the escrow journal of durability: two: keys given after the backup come from it')
    .option(
      '--head <file...>',
      'checkpoints of the log that somebody keeps outside: the backup must be of their history; with --tail the newest is taken for the last there was',
      [],
    )
    .option('--tail <folder>', 'an export of the log that is newer than the backup: what was taken away since is taken away again')
    .option('--no-tail', 'go on without what the second place knows of the log: what was revoked since the backup counts again')
    .option('--nothing-lost', 'the log did not grow after this backup: devices may go on without enrolling anew', false)
    .action(
      async (
        file: string,
        {
          share,
          base,
          fileKey,
          ca,
          escrow,
          head,
          tail,
          nothingLost,
        }: {
          share: string[];
          base: string[];
          fileKey?: string;
          ca?: string;
          escrow?: string;
          head: string[];
          tail?: string | boolean;
          nothingLost: boolean;
        },
      ) => {
        const { restore } = await import('./restore.js');
        const { readMadeToken, readShare } = await import('./restore-token.js');
        const root = ca === undefined ? undefined : new X509Certificate(readFileSync(ca)).raw;
        const report = await restore(
          {
            home: home(),
            backup: resolve(file),
            bases: base,
            shares: share.map(readShare),
            nothingLost,
            say: console.error,
            ...(root ? { root } : {}),
            ...(fileKey === undefined ? {} : { made: readMadeToken(fileKey) }),
            ...(escrow ? { escrow: resolve(escrow) } : {}),
            heads: head.map((path) => readFileSync(path, 'utf8')),
            ...(typeof tail === 'string' ? { tail: resolve(tail) } : tail === false ? { tail } : {}),
          },
          installation,
        );
        print(report);
        if (report.lost > 0)
          console.error(`${report.lost} entries that were signed after this backup are not in the log any more; an entry says so`);
        const unopenable = report.fromEscrow?.unopenable ?? 0;
        if (unopenable > 0)
          console.error(
            `${unopenable} keys were last under a key-encryption key that neither this backup nor the second place has a copy of: they are as they were before it, or not here`,
          );
        if (report.devicesEnded > 0)
          console.error(
            `${report.devicesEnded} devices must enrol anew: what was revoked after this backup cannot be told from what was not`,
          );
      },
    );

  ekms
    .command('drill [backup]')
    .description('restore the newest backup, or this one, into a scratch place, look at everything, remove it, and say so in the log')
    .requiredOption('--share <file...>', 'a file with the line of one share, as its custodian opened it')
    .option('--scratch <folder>', 'where there is room for a copy of the appliance; a memory file system is best', tmpdir())
    .action(async (file: string | undefined, { share, scratch }: { share: string[]; scratch: string }) => {
      const { drill } = await import('./drill.js');
      const { readShare } = await import('./restore-token.js');
      const newest = file ?? ((await act('backup.list', {})) as { file: string }[])[0]?.file; // what Backups.list gives
      if (newest === undefined) throw new Fault('not-found', 'backup-missing', 'there is no backup yet: ekms backup create');
      const root = new X509Certificate(readFileSync(join(home(), 'ca.pem'))).raw;
      const report = await drill(
        { backup: resolve(newest), shares: share.map(readShare), root, say: console.error },
        scratch,
        installation,
      );
      const { backup, keys, entries, seconds, problems } = report;
      await act('custody.drilled', { backup, keys, entries, seconds: Math.round(seconds), problems: problems.length });
      print(report);
      if (problems.length > 0) throw new Fault('conflict', 'drill-failed', `the restored copy has ${problems.length} problems`);
    });
}

type Custodians = Pick<CeremonyOptions, 'custodian' | 'threshold'> & Partial<Pick<CeremonyOptions, 'recoveryAgent' | 'recoveryQuorum'>>;

async function custodiansOf({ custodian, threshold, recoveryAgent = [], recoveryQuorum = 2 }: Custodians) {
  const { checkPlan, parseAgent, parseCustodian } = await import('./ceremony.js');
  const recovery = recoveryAgent.length > 0 ? { recovery: { quorum: recoveryQuorum, agents: recoveryAgent.map(parseAgent) } } : {};
  return checkPlan({ threshold, custodians: custodian.map(parseCustodian), ...recovery });
}

/** Nothing where nobody is named: then a ceremony that was begun goes on. */
async function planOf({ shares, present, domain, organisation, ...who }: CeremonyOptions): Promise<CeremonyPlan | undefined> {
  if (who.custodian.length === 0) return undefined;
  if (shares === undefined)
    throw new Fault('misconfigured', 'ceremony-plan', 'say where the shares go: --shares FOLDER, on another medium');
  return {
    plan: await custodiansOf(who),
    out: resolve(shares),
    domains: domain,
    ...(organisation === undefined ? {} : { organisation }),
    present,
    began: new Date().toISOString(),
  };
}

function small(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError('It is not a small whole number.');
  return Number(text);
}
