import { isFault } from '../../../src/foundation/index.js';
import { type LogReading, type ProvedUse, readUses } from '../log/index.js';
import { deviceOf } from '../store/index.js';
import { asDevice, openStore, type StoreOptions, type Terminal } from './session.js';

export interface LogOptions extends StoreOptions {
  json?: boolean;
  all?: boolean;
  newLog?: boolean;
}

/** Exit status 1 where the log does not hold; the evidence is kept, and what is remembered stays as it was. */
export async function log(terminal: Terminal, options: LogOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const state = await store.read();
  const now = () => new Date();
  const before = await store.knownLog();
  const from = options.newLog ? now().toISOString() : before?.from;
  const known = options.newLog ? undefined : before;
  const receipts = (await store.receipts()).filter(({ at }) => from === undefined || at >= from);
  if (options.newLog) await store.keepAlarm({ words: 'a new log was accepted (--new-log)', known: before }, now());
  let reading: LogReading;
  try {
    // Of a shared mailbox that one does not read any more nothing is shown.
    const held = state.keys.filter(({ mailbox }) => mailbox === undefined).map(({ id }) => id);
    reading = await asDevice(store, (client) => readUses({ client, root: deviceOf(state).root, held, receipts, known, now }));
  } catch (error) {
    if (isFault(error, 'log-forged') || isFault(error, 'statement-forged')) await store.keepAlarm({ words: error.message, known }, now());
    throw error;
  }
  const { uses, findings, size } = reading;
  const listed = uses.filter(({ action }) => options.all === true || action !== 'key.uses');
  if (options.json) terminal.print(`${JSON.stringify(listed, undefined, 2)}\n`);
  else for (const use of listed) terminal.print(`${line(use)}\n`);
  for (const { words } of findings) terminal.say(`ALARM: ${words}`);
  if (findings.length > 0) {
    await store.keepAlarm({ findings, known, seen: reading.known }, now());
    terminal.say(`the appliance’s log does not hold: give ${store.home}/log-alarms.jsonl to an auditor`);
    return 1;
  }
  await store.keepLog(from === undefined ? reading.known : { ...reading.known, from });
  const own = receipts.filter(({ key }) => state.keys.some(({ id }) => id === key)).length;
  terminal.say(
    `${uses.length} entries about ${new Set(uses.map(({ key }) => key)).size} keys, counted without a gap and proved in a log of ${size}; ${own} receipts of this device are among them`,
  );
  return 0;
}

function line({ time, key, use, action, outcome, reason, actor, device, network, reader, sealed, facts }: ProvedUse): string {
  if (action === 'entry.sealed') {
    const until = new Date(Number(facts['until'])).toISOString();
    if (!sealed) return [time, key, `use ${use}`, `sealed until ${until}`].join('  ');
    const { action: what, outcome: how, actor: whose, personal } = sealed;
    const words = [what, how, `${whose.kind} ${whose.id ?? ''}`.trimEnd(), ...readBy(personal['reader']), `was sealed until ${until}`];
    return [time, key, `use ${use}`, ...words].join('  ');
  }
  const by = device === undefined ? `${actor.kind}${actor.id === undefined ? '' : ` ${actor.id}`}` : `device ${device}`;
  return [
    time,
    key,
    `use ${use}`,
    action,
    outcome + (reason === undefined ? '' : ` (${reason})`),
    by,
    network ?? '-',
    ...readBy(reader),
  ].join('  ');
}

const readBy = (reader: string | undefined): string[] => (reader === undefined ? [] : [`read by ${reader}`]);
