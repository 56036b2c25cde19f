import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { Option } from 'commander';
import { parseDocument } from 'yaml';
import { Fault } from '../foundation/index.js';
import type { ActName } from './acts.js';

/** `ekms policy …` */
export function policyCommands(ekms: Command, does: (name: ActName) => (args: object) => Promise<void>): void {
  const policy = ekms.command('policy').description('who may reach what');
  // Who works over SSH is at the other end of it.
  const from = () =>
    new Option('--from <address>', 'address that you administer from: a change that keeps it out is on trial for a minute').default(
      process.env['SSH_CONNECTION']?.split(' ')[0],
    );
  policy
    .command('show')
    .description('the policy in force')
    .action(() => does('policy.show')({}));
  policy
    .command('history')
    .description('versions, newest first')
    .action(() => does('policy.history')({}));
  policy
    .command('check <file>')
    .description('say whether a policy can be used, and what it would change')
    .addOption(from())
    .action((file: string, { from }: { from?: string }) => does('policy.check')({ document: documentIn(file), ...(from ? { from } : {}) }));
  policy
    .command('set <file>')
    .description('put the policy in a file into force: networks, network, tls, isolation as ekms.yaml has them')
    .addOption(from())
    .action((file: string, { from }: { from?: string }) => does('policy.set')({ document: documentIn(file), ...(from ? { from } : {}) }));
  policy
    .command('confirm <version>')
    .description('keep a policy that is on trial')
    .addOption(from())
    .action((version: string, { from }: { from?: string }) =>
      does('policy.confirm')({ version: Number(version), ...(from ? { from } : {}) }),
    );
}

function documentIn(file: string): unknown {
  const document = parseDocument(readFileSync(file, 'utf8'));
  const error = document.errors[0];
  if (error) throw new Fault('malformed', 'policy-invalid', `${file} is no YAML: ${error.message.split('\n', 1)[0]}`);
  return document.toJS() as unknown;
}
