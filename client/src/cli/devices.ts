import { isProblem } from '../sdk/index.js';
import { deviceOf } from '../store/index.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

export interface ListOptions extends StoreOptions {
  json?: boolean;
}

export async function listDevices(terminal: Terminal, options: ListOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const found = await asDevice(store, (client) => client.devices());
  if (options.json) terminal.print(`${JSON.stringify(found, undefined, 2)}\n`);
  else
    for (const { id, name, platform, state, enrolledAt, current } of found)
      terminal.print(`${id}  ${state}  ${platform}  ${name ?? '-'}  ${enrolledAt}${current ? '  (this device)' : ''}\n`);
  return 0;
}

export async function listPending(terminal: Terminal, options: ListOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const found = await asDevice(store, (client) => client.pendingEnrolments());
  if (options.json) terminal.print(`${JSON.stringify(found, undefined, 2)}\n`);
  else
    for (const { id, address, name, platform, requestedAt } of found)
      terminal.print(`${id}  ${address}  ${platform}  ${name ?? '-'}  ${requestedAt}\n`);
  if (found.length === 0) terminal.say('no device waits for a confirmation');
  return 0;
}

export async function decide(terminal: Terminal, id: string, confirm: boolean, options: StoreOptions): Promise<number> {
  const store = await openStore(terminal, options);
  await asDevice(store, (client) => client.confirmEnrolment(id, confirm));
  terminal.say(confirm ? `enrolment ${id} is confirmed` : `enrolment ${id} is denied: that device gets nothing`);
  return 0;
}

export async function removeThis(terminal: Terminal, options: StoreOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const { id } = deviceOf(await store.read());
  try {
    await asDevice(store, (client) => client.removeDevice(id));
  } catch (error) {
    // Revoked by somebody else already: what is left to do is here.
    if (!isProblem(error, 'device-unknown', 'device-blocked', 'device-ended')) throw error;
    terminal.say('the appliance does not accept this device any more');
  }
  await store.locked(() => store.remove());
  terminal.say(`device ${id} is removed; its keys are gone from ${store.home}`);
  return 0;
}
