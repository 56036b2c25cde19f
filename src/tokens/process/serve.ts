import { writeFileSync, writeSync } from 'node:fs';
import { OneAtATime, SystemClock } from '../../foundation/index.js';
import { SIGNING_KEYS, type SigningKeyName } from '../hsm.js';
import { pinPlace } from '../pin-place.js';
import { loadProfile } from '../pkcs11/profile.js';
import { selfTest } from '../pkcs11/self-test.js';
import type { SigningKeyInfo, TokenFinding, TokenHealth } from '../token.js';
import { Desk, type Errand } from './desk.js';
import { encodeBody } from './frames.js';
import { Keeper } from './keeper.js';
import { Keks } from './keks.js';
import { Lane, type LaneLimits } from './lane.js';
import { settlePin } from './pin.js';
import { Pkcs11Owner } from './pkcs11-owner.js';
import { TokenServer } from './server.js';
import { readPin, type TokenSettings } from './settings.js';
import { SuccessorKeys } from './successor-keys.js';
import { unavailable } from './token-faults.js';
import { keysInForce, openTokenState, type TokenState } from './token-state.js';
import { UnsealDoor, unsealSocket } from './unseal.js';
import type { WorkerTask } from './worker.js';
import { Workman } from './workman.js';

/**
 * The token process: the only holder of module and PIN. Resolves once it serves; `stop` ends it in order. Without a PIN it serves sealed:
 * it answers `health` and nothing else until a person gives the PIN (unseal.ts). Rejects with HsmError (`module-missing`, `token-missing`,
 * `pin-refused` …) or Fault (`token-state-missing`, `journal-damaged`, `token-in-use` …).
 * @param workerEntry path of the worker's file; beside the process's own
 */
export async function serveTokenProcess(settings: TokenSettings, workerEntry: string): Promise<{ stop(): Promise<void> }> {
  harden();
  const state = await openTokenState(settings.state, new SystemClock());
  // Under its lock: nobody else works with the token.
  settlePin(settings);
  let desk: Pick<Desk, 'answer'> = SEALED;
  let keeper: Keeper | undefined;
  const unsealed = async (pin: string) => ({ desk, keeper } = await openDesk(settings, state, workerEntry, pin));
  const door = new UnsealDoor(unsealSocket(settings.socket), async (pin) => void (await unsealed(pin)));
  if (settings.pinFile !== undefined) await unsealed(readPin(settings.pinFile));
  const server = new TokenServer(settings.socket, (op, body) => desk.answer(op, body), settings.shared);
  await server.listen();
  if (settings.pinFile === undefined) {
    await door.open();
    process.stderr.write('sealed: waits for the PIN (ekms token unseal)\n');
  }
  return {
    async stop() {
      server.close();
      door.close();
      await keeper?.stop();
      await state.journal.close();
    },
  };
}

/** What a token process says that has no PIN yet. */
const SEALED: Pick<Desk, 'answer'> = {
  async answer(op) {
    if (op !== 'health') throw unavailable('the token is sealed: it waits for its PIN (ekms token unseal)', 10);
    const reason = 'it waits for its PIN (ekms token unseal)';
    return encodeBody({ state: 'sealed', reason, queued: 0, recoveries: 0 } satisfies TokenHealth);
  },
};

/** Logs in and opens every session. Rejects with what went wrong; then nothing of it is left. */
async function openDesk(settings: TokenSettings, state: TokenState, workerEntry: string, pin: string) {
  const { journal } = state;
  const keys = () => keysInForce(state);
  const profile = loadProfile(settings.profiles, settings.profile);
  const token = { label: settings.label, profile };
  const owner = new Pkcs11Owner(settings, token, pin, () => keys().serving);
  const man = (lowPriority: boolean) =>
    new Workman(workerEntry, { module: settings.module, token, state: settings.state, lowPriority } satisfies WorkerTask, giveUp);
  const lost = (why: string) => keeper.lost(why);
  const others = Array.from({ length: settings.workers - 1 }, () => man(false));
  const retrieval = new Lane([man(false), ...others], { ...RETRIEVAL, waiting: settings.waiting }, lost);
  const making = new Lane([man(true)], { ...MAKING, waiting: settings.waiting }, lost);
  let signingKeys: ReadonlyMap<SigningKeyName, SigningKeyInfo> = new Map();
  const look = () => {
    signingKeys = publicParts(owner);
  };
  const keeper = new Keeper(owner, [retrieval, making], keys, look);
  const changes = new OneAtATime();
  const alone = <T>(act: () => Promise<T>) => changes.run('keys', act);
  const keks = new Keks(settings, owner, pin, () => keeper.refresh(), alone);
  await keeper.start(() => {
    probe(owner);
    look();
  });
  const successors = new SuccessorKeys({ settings, owner, state, clock: new SystemClock(), alone, refresh: () => keeper.refresh() });
  const judge = (errand: Errand) => (SLOW.has(errand.op) ? making : retrieval).run(errand);
  // One of another user cannot look at the PIN's place for themselves.
  const own: TokenFinding[] = settings.shared ? [{ check: 'pin-place', ...pinPlace(settings.pinFile) }] : [];
  return {
    keeper,
    desk: new Desk({
      journal,
      ...{ keys, signingKeys: () => signingKeys },
      ...{ health: () => keeper.health, judge, own, keks, successors },
    }),
  };
}

const RETRIEVAL: Omit<LaneLimits, 'waiting'> = { inHand: 2, deadline: 3_000, stuck: 20_000 };
/** What makes key pairs. */
const SLOW = new Set(['makePair', 'inspect', 'renew', 'look', 'makeTransferKey', 'transferOut', 'takeIn']);
/** RSA-4096 takes seconds, on a loaded machine many; a key wrapped anew takes one millisecond, and the next is at hand then. */
const MAKING: Omit<LaneLimits, 'waiting'> = { inHand: 2, deadline: 60_000, stuck: 180_000 };

/** The chosen mechanisms work. */
function probe(owner: Pkcs11Owner): void {
  const hsm = owner.session();
  try {
    selfTest(hsm);
  } finally {
    hsm.close();
  }
}

/** Every signing key is there. */
function publicParts(owner: Pkcs11Owner): Map<SigningKeyName, SigningKeyInfo> {
  const hsm = owner.session();
  try {
    return new Map(SIGNING_KEYS.map((name) => [name, { name, algorithm: hsm.algorithm(name), publicKey: hsm.publicKey(name) }]));
  } finally {
    hsm.close();
  }
}

/** Keys pass through this process's memory where the token is a library: no core of it, no debugger on a signal, no file of others' reading. */
function harden(): void {
  process.umask(0o077);
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
  } catch {
    process.stderr.write('core dumps of the token process cannot be emptied here (/proc/self/coredump_filter): switch them off\n');
  }
  process.on('SIGUSR1', () => undefined);
}

/** A thread that hangs inside the module cannot be ended, and process.exit would wait for it. Whoever supervises starts the process anew. */
function giveUp(what: string): void {
  writeSync(2, `token process gives up: ${what}\n`);
  process.kill(process.pid, 'SIGKILL');
}
