import { type Command, InvalidArgumentError, Option } from 'commander';
import { isFault } from '../foundation/index.js';
import type { ActName } from './acts.js';
import type { Printed } from './firewall-acts.js';

interface Asked {
  format: 'nftables' | 'systemd';
  ssh?: number;
}

/** `ekms firewall …` */
export function firewallCommands(ekms: Command, home: () => string, act: (name: ActName, args: object) => Promise<unknown>): void {
  ekms
    .command('firewall')
    .description('packet filters from the network policy')
    .command('print')
    .description('write the policy in force as an nftables file or as a drop-in of the systemd unit')
    .addOption(new Option('--format <format>').choices(['nftables', 'systemd']).makeOptionMandatory())
    .addOption(
      new Option('--ssh <port>', 'lets remote shells in from where administration is reached; none: keeps them out')
        .default(22)
        .argParser(portOf),
    )
    .action(async ({ format, ssh }: Asked) => {
      const args = { format, ...(ssh ? { ssh } : {}) };
      const printed = await act('firewall.print', args).catch(async (error: unknown) => {
        if (!isFault(error, 'not-initialised')) throw error;
        const { firewallOfFile } = await import('./firewall-acts.js');
        const { loadConfiguration } = await import('../configuration/index.js');
        return firewallOfFile(loadConfiguration(home()), args);
      });
      const { text, hints } = printed as Printed; // the act made it
      for (const hint of hints) console.error(`ekms: ${hint}`);
      process.stdout.write(text);
    });
}

function portOf(text: string): number {
  if (text === 'none') return 0;
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > 65_535) throw new InvalidArgumentError('It is no port.');
  return Number(text);
}
