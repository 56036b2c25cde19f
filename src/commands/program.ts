import { resolve } from 'node:path';
import { Argument, Command, CommanderError, InvalidArgumentError } from 'commander';
import { isFault } from '../foundation/index.js';
import type { Installation } from '../house.js';
import type { ActName } from './acts.js';
import { adminCommands } from './admin-commands.js';
import { askAppliance, askRunning, RequestFiled } from './ask-appliance.js';
import { auditCommands } from './audit-commands.js';
import { auditSearchCommands } from './audit-search-commands.js';
import { authorityCommands } from './authority-commands.js';
import { budgetCommands } from './budget-commands.js';
import { CAMPAIGNS, type CampaignName, type CampaignSize, runCampaign } from './campaign.js';
import type { CommandParts } from './command-parts.js';
import { custodyCommands } from './custody-commands.js';
import { databaseCommands } from './database-commands.js';
import { directoryCommands } from './directory-commands.js';
import { firewallCommands } from './firewall-commands.js';
import { keyCommands } from './key-commands.js';
import { mailboxCommands } from './mailbox-commands.js';
import { policyCommands } from './policy-commands.js';
import { registrationCommands } from './registration-commands.js';
import { intoFile, requestCommands } from './request-commands.js';
import { tokenCommands } from './token-commands.js';

const home = (): string => resolve(process.env['EKMS_HOME'] ?? 'data');
const print = (value: unknown): void => console.log(typeof value === 'string' ? value : JSON.stringify(value, null, 2));

/** Has the running appliance do it; with none up, does it alone. What a command needs beyond asking is loaded only then: asking answers at once. */
async function act(name: ActName, args: object, installation: Installation): Promise<unknown> {
  const answered = await askAppliance(home(), name, args);
  if (answered) return answered.value;
  const { actAlone } = await import('./act-alone.js');
  return actAlone(home(), name, args, installation);
}

export function program(installation: Installation, version: string): Command {
  const ekms = new Command('ekms')
    .description('Enterprise key management appliance')
    .version(version)
    .exitOverride()
    .showHelpAfterError('(with --help it says what it takes)');
  const does = (name: ActName) => async (args: object) => {
    const value = await act(name, args, installation);
    if (value !== null && value !== undefined) print(value);
  };
  const parts: CommandParts = {
    ...{ home, installation, print, does },
    act: (name, args) => act(name, args, installation),
    ask: (name, args) => askRunning(home(), name, args),
  };

  ekms
    .command('init')
    .description('make token, key-encryption key, authorities and database')
    .option('--domain <domain...>', 'mail domain whose people may enrol', [])
    .option('--organisation <name>', 'name in the authorities’ certificates')
    .option('--public-name <name>', 'where devices and browsers reach it, such as ekms.corp.example; cannot be changed later')
    .action(async ({ domain, ...names }: { domain: string[]; organisation?: string; publicName?: string }) => {
      const { init } = await import('./init.js');
      await init({ home: home(), domains: domain, ...names, say: console.error }, installation);
      print(`initialised ${home()}; its root certificate is ca.pem there`);
    });
  ekms
    .command('serve')
    .description('run the appliance')
    .action(async () => {
      const { serve } = await import('./serve.js');
      await serve(home(), installation, print);
    });
  databaseCommands(ekms, home, print);
  authorityCommands(ekms, parts);
  tokenCommands(ekms, parts);

  custodyCommands(ekms, parts);

  const app = ekms.command('app').description('app credentials of the managed client');
  app
    .command('issue')
    .description('a credential for a release of the managed client')
    .requiredOption('--platform <name>', 'such as linux, windows, android')
    .option('--release <version>', 'of the client that it is shipped with')
    .requiredOption('-o, --output <file>', 'new file for it; a private key')
    .action(async ({ platform, release, output }: { platform: string; release?: string; output: string }) => {
      await intoFile(output, () => act('app.issue', { platform, ...(release ? { release } : {}) }, installation));
      console.error(`${output} holds a private key: ship it inside the managed app only`);
    });
  app
    .command('revoke <id>')
    .description('no device enrols with it any more')
    .option('--devices', 'also end every device that was enrolled with it, at once', false)
    .action((id: string, { devices }: { devices: boolean }) => does('app.revoke')({ id, devices }));
  app
    .command('list')
    .description('all of them, revoked ones too')
    .action(() => does('app.list')({}));

  const pool = ekms.command('pool').description('ready key pairs');
  pool
    .command('fill')
    .description('make key pairs ahead of a roll-out, about a second of one core each')
    .requiredOption('--count <n>', 'pairs to have ready', (text) => whole(text))
    .action(({ count }: { count: number }) => does('pool.fill')({ count }));

  const enrolment = ekms.command('enrolment').description('enrolments that wait for an administrator');
  enrolment
    .command('list')
    .description('who waits, since when')
    .action(() => does('enrolment.list')({}));
  enrolment
    .command('approve <id>')
    .description('let the device in')
    .action((id: string) => does('enrolment.decide')({ id, approve: true }));
  enrolment
    .command('deny <id>')
    .description('keep it out; its person may begin again')
    .action((id: string) => does('enrolment.decide')({ id, approve: false }));

  const employee = ekms.command('employee').description('people');
  employee
    .command('stop <address>')
    .description('a leaver: nothing is released from the next request on')
    .action((address: string) => does('employee.stop')({ address }));
  employee
    .command('resume <address>')
    .description('somebody stopped is back')
    .action((address: string) => does('employee.resume')({ address }));
  employee
    .command('release-address <address>')
    .description('the address will be somebody else’s')
    .action((address: string) => does('binding.end')({ address }));

  employee
    .command('mode <address>')
    .description('how this person’s keys reach them')
    .addArgument(new Argument('<mode>').choices(['deliver', 'remote']))
    .action((address: string, mode: string) => does('employee.mode')({ address, mode }));

  directoryCommands(ekms, employee, does);
  budgetCommands(ekms, does);
  policyCommands(ekms, does);
  firewallCommands(ekms, home, parts.act);

  const device = ekms.command('device').description('devices');
  device
    .command('list <address>')
    .description('a person’s devices, with ids and states')
    .action((address: string) => does('device.list')({ address }));
  device
    .command('revoke <id>')
    .description('nothing is released to it from the next request on')
    .action((id: string) => does('device.revoke')({ id }));

  registrationCommands(device, parts);

  keyCommands(ekms, does);
  mailboxCommands(ekms, does);
  adminCommands(ekms, does);
  requestCommands(ekms, does, parts.act);
  const audit = ekms.command('audit').description('the log');
  auditCommands(audit, parts);
  auditSearchCommands(audit, parts);
  audit
    .command('tail')
    .description('the last entries, oldest first')
    .option('-n, --count <n>', 'entries', (text) => whole(text), 20)
    .action(({ count }: { count: number }) => does('audit.tail')({ count }));
  ekms
    .command('doctor')
    .description('say what is wrong and what this token enforces; exit status 0 only if nothing is bad')
    .option('--data', 'look at the log and the data only', false)
    .option('--json', 'for programs', false)
    .action(async (how: { data: boolean; json: boolean }) => {
      const { diagnose } = await import('./diagnose.js');
      await diagnose(home(), how, installation, print);
    });
  ekms
    .command('campaign')
    .description('long runs of tests, on homes of their own')
    .addArgument(new Argument('<name>').choices(Object.keys(CAMPAIGNS)))
    .option('--seed <n>', 'repeats a run', (text) => whole(text), 1)
    .option('--count <n>', 'faults or inputs', (text) => whole(text), 50)
    .option('--kills <n>', 'of the import: deaths among them', (text) => whole(text))
    .action((name: CampaignName, how: CampaignSize) => runCampaign(name, how, installation));
  ekms
    .command('status')
    .description('health of the running appliance')
    .option('--running', 'ask only; with none up, say so instead of looking alone', false)
    .action(async ({ running }: { running: boolean }) => {
      print(await (running ? parts.ask : parts.act)('health', {}));
    });
  return ekms;
}

function whole(text: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}

/** Exit status: 0 done, 1 a named fault, 2 wrong words, 3 a request was filed for others to approve (its id on stdout), 70 a defect of ours. Never a stack trace for what a person can mend. */
export async function run(argv: string[], installation: Installation, version: string): Promise<number> {
  try {
    await program(installation, version).parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof RequestFiled) {
      print(error.request.id);
      console.error(`ekms: ${error.message} (${error.code})`);
      return 3;
    }
    if (isFault(error)) {
      console.error(`ekms: ${error.message} (${error.code})`);
      return 1;
    }
    if (error instanceof Error && 'syscall' in error) {
      console.error(`ekms: ${error.message}`); // a file or address that the operator named: EEXIST, EACCES, ENOSPC …
      return 1;
    }
    console.error('ekms: a defect:', error);
    return 70;
  }
}
