import { type Collected, collectKeys, type HeldKey } from '../keys/index.js';
import { fetchRecovery } from '../pdf/index.js';
import { ApiProblem } from '../sdk/index.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

export interface KeysOptions extends StoreOptions {
  json?: boolean;
}

export async function keys(terminal: Terminal, options: KeysOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const collected = await asDevice(store, async (client) => {
    const keys = await collectKeys(store, client, () => new Date());
    // For documents that are encrypted later without the appliance; if it has none just now, the keys count.
    await fetchRecovery(store, client, new Date()).catch((error: unknown) => {
      if (!(error instanceof ApiProblem)) throw error;
    });
    return keys;
  });
  if (!options.json) return tellKeys(terminal, collected);
  const pending = collected.pending.map(({ id, suite, state, mode }) => ({ id, suite, state, mode, certificates: [] }));
  const held = collected.keys.map((key) => ({
    id: key.id,
    suite: key.suite,
    state: key.state,
    mode: key.mode,
    ...(key.mailbox === undefined ? {} : { mailbox: key.mailbox }),
    certificates: [...key.leaves, ...key.authorities].map(({ pem }) => pem),
  }));
  terminal.print(`${JSON.stringify([...held, ...pending], undefined, 2)}\n`);
  return tellMissing(terminal, collected);
}

/** Exit status 1 when a delivery was refused or withheld, whatever else went well. */
function tellMissing(terminal: Terminal, collected: Collected): number {
  for (const fault of collected.refused) terminal.say(`REFUSED: ${fault.message}. Nothing of it was kept; tell IT.`);
  for (const { id, problem } of collected.withheld) terminal.say(`the appliance does not hand out key ${id} (${problem}): tell IT`);
  return collected.refused.length + collected.withheld.length > 0 ? 1 : 0;
}

export function tellKeys(terminal: Terminal, collected: Collected): number {
  for (const key of collected.keys) terminal.print(`${line(key)}\n`);
  for (const key of collected.pending) terminal.print(`${key.id}  ${key.suite}  pending\n`);
  return tellMissing(terminal, collected);
}

function line(key: HeldKey): string {
  const [newest] = key.leaves;
  const certificate = newest ? `  ${newest.addresses.join(', ')}, until ${newest.notAfter.toISOString().slice(0, 10)}` : '';
  const shared = key.mailbox === undefined ? '' : '  shared mailbox';
  return `${key.id}  ${key.suite}  ${key.state}  ${key.mode}${certificate}${shared}`;
}
