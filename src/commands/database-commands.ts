import type { Command } from 'commander';

/** For upgrades: the schema, apart from serving with it. */
export function databaseCommands(ekms: Command, home: () => string, print: (value: unknown) => void): void {
  const database = ekms.command('database').description('the database, for upgrades');
  const settings = async () => {
    const { loadConfiguration } = await import('../configuration/index.js');
    const { url, passwordFile } = loadConfiguration(home()).database;
    return { url, home: home(), ...(passwordFile ? { passwordFile } : {}) };
  };
  database
    .command('state')
    .description('which migrations it has been through, and how long the log is; changes nothing')
    .action(async () => {
      const { databaseState } = await import('../storage/index.js');
      print(await databaseState(await settings()));
    });
  database
    .command('migrate')
    .description('bring its schema up to this version, and do nothing else')
    .action(async () => {
      const { lockHome } = await import('./lock.js');
      const { openStorage } = await import('../storage/index.js');
      const unlock = lockHome(home());
      try {
        await (await openStorage(await settings())).close();
      } finally {
        unlock();
      }
    });
}
