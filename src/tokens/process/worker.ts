import { readFileSync, readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { Fault, SystemClock } from '../../foundation/index.js';
import type { AuthorityCertificates } from '../authorities.js';
import { HsmError } from '../hsm.js';
import { inspectToken } from '../pkcs11/inspection.js';
import { Pkcs11Module } from '../pkcs11/module.js';
import { Pkcs11Hsm, type Pkcs11Token } from '../pkcs11/pkcs11-hsm.js';
import { Warden } from '../warden.js';
import { keksOfCustodians, recoveryAgents, sealedPackage } from './custody-file.js';
import { type Errand, readArguments } from './desk.js';
import { encodeBody } from './frames.js';
import { type Judgement, judge } from './judge.js';
import { seen } from './token-faults.js';
import { CANARY_FILE, type KeysInForce } from './token-state.js';
import type { Order, Reply } from './workman.js';

export interface WorkerTask {
  module: string;
  token: Omit<Pkcs11Token, 'canary' | 'serving'>;
  /** Folder of the token process's own state. */
  state: string;
  /** The key-generation lane yields to retrievals on the processor too. */
  lowPriority: boolean;
}

// The main thread, which is of this same program, made it.
const task = workerData as WorkerTask;
let module: Pkcs11Module | undefined;
let session: { hsm: Pkcs11Hsm; token: Pkcs11Token; warden: Warden } | undefined;
/** As the main thread said it last. */
let keys: KeysInForce | undefined;

async function obey(order: Order): Promise<Reply> {
  switch (order.do) {
    case 'open':
      openSession(order.keys).hsm.checkCanary();
      return done();
    case 'refresh':
      closeSession();
      openSession(order.keys).hsm.checkCanary();
      return done();
    case 'close':
      closeSession();
      return done();
    case 'probe':
      session?.hsm.checkCanary();
      return done();
    case 'judge': {
      const { claims, value } = await act(order.errand);
      return { kind: 'done', claims, body: encodeBody(value) };
    }
  }
}

async function act(errand: Errand): Promise<Judgement> {
  if (!session) throw new HsmError('token-down', 'no session with the token');
  const { hsm, warden, token } = session;
  try {
    // A matter of the module, not of any record: the warden has no say in it.
    if (errand.op === 'inspect' && module) return { claims: [], value: inspectToken(module, token) };
    if (errand.op === 'custody') return { claims: [], value: sealedPackage(hsm, task.state) };
    return await judge(warden, errand.op, readArguments(errand));
  } catch (error) {
    if (!(error instanceof HsmError && error.code === 'token-down')) throw error;
    // A token that refuses one call, say for a recipient's odd key, is not a token that is gone. The session may have been left in the middle.
    hsm.checkCanary();
    closeSession();
    openSession(keys);
    process.stderr.write(`${errand.op}: ${error.message}\n`);
    throw new Fault('conflict', 'token-call-refused', 'the token refused this call');
  }
}

/** The main thread has initialised and logged in. */
function openSession(said: KeysInForce | undefined) {
  if (!said) throw new HsmError('token-down', 'no keys were named');
  keys = said;
  module ??= new Pkcs11Module(task.module);
  // A rotation may have wrapped the canary anew since this thread began.
  const token = { ...task.token, canary: readFileSync(join(task.state, CANARY_FILE)), serving: said.serving };
  // A copy sent to a thread has plain Uint8Arrays where Buffers were.
  const authorities = Object.fromEntries(
    Object.entries(said.authorities).map(([name, der]) => [name, Buffer.from(der)]),
  ) as AuthorityCertificates; // one per name
  const generations = said.generations.map((each) => ({ ...each, certificate: Buffer.from(each.certificate) }));
  const hsm = new Pkcs11Hsm(module, token);
  hsm.serveUnder(keksOfCustodians(hsm, task.state));
  session = {
    hsm,
    token,
    warden: new Warden(hsm, authorities, new SystemClock(), recoveryAgents(hsm, task.state), said.serving.audit, generations),
  };
  return session;
}

/** A session of a token that is gone cannot be closed either; finalising ends it. */
function closeSession(): void {
  const closing = session;
  session = undefined;
  closing?.hsm.close();
}

const done = (): Reply => ({ kind: 'done', claims: [], body: '' });

function sayWhy(error: unknown): Reply {
  if (error instanceof HsmError) return { kind: 'hsm', code: error.code, message: error.message };
  return { kind: 'fault', fault: seen(error) };
}

if (task.lowPriority) setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), constants.priority.PRIORITY_LOW);
// One after the other: a verb that waits for a promise must not find its session closed by the next order.
let last: Promise<void> = Promise.resolve();
parentPort?.on('message', (order: Order) => {
  last = last
    .then(() => obey(order))
    .catch(sayWhy)
    .then((reply) => parentPort?.postMessage(reply));
});
