import { homedir } from 'node:os';
import { join } from 'node:path';
import type { EkmsClient } from '../sdk/index.js';
import { deviceOf, firstLine, Store } from '../store/index.js';

export interface StoreOptions {
  passphraseFile?: string;
}

/** What a command speaks with. Words go to stderr, results to stdout, so that results can be piped. */
export interface Terminal {
  environment: NodeJS.ProcessEnv;
  say(words: string): void;
  print(bytes: string | Uint8Array): void;
  /** Where somebody watches: shows how far the work on one file is. */
  progress?(name: string): (done: number, all: number) => void;
}

export async function openStore(terminal: Terminal, options: StoreOptions): Promise<Store> {
  const home = terminal.environment['MESIGN_HOME'] || join(homedir(), '.mesign');
  if (options.passphraseFile === undefined) return new Store(home, undefined);
  const store = new Store(home, await firstLine(options.passphraseFile, 'pass phrase'));
  if (await store.opensByKeyFile())
    terminal.say(`note: ${home} is not protected by a pass phrase but by its key file; the one given is not used`);
  return store;
}

/** Runs `work` with a connection as this device. */
export async function asDevice<T>(store: Store, work: (client: EkmsClient) => Promise<T>): Promise<T> {
  const device = deviceOf(await store.read());
  // Loaded by who asks the appliance: documents are mostly opened without it.
  const { EkmsClient } = await import('../sdk/index.js');
  const client = new EkmsClient({ server: device.server, root: device.root.pem, identity: device.identity });
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
