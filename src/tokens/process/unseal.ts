import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Fault, isFault } from '../../foundation/index.js';
import { HsmError } from '../hsm.js';
import { socketName } from './socket-path.js';
import { faultOf, faultOnWire, seen } from './token-faults.js';

/** Bytes of a PIN, its line end included. */
const MOST = 256;
/** Milliseconds in which whoever connected must have said the PIN. */
const PATIENCE_MS = 10_000;

/** Beside the socket that the API process may open, and for the token process's own user only: the PIN never passes through the API. */
export const unsealSocket = (socket: string): string => join(dirname(socket), 'unseal.sock');

/**
 * The door through which a person gives the PIN to a token process that started without one: one line in, one line out, `unsealed` or a Fault
 * as JSON. One attempt at a time, each one made by a person: a PIN is never tried twice by itself.
 */
export class UnsealDoor {
  private readonly server: Server;
  private busy = false;

  /** @param attempt resolves when the token took the PIN; the door closes then. Rejects with why it did not; the door stays open. */
  constructor(
    private readonly path: string,
    private readonly attempt: (pin: string) => Promise<void>,
  ) {
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.hear(socket));
  }

  async open(): Promise<void> {
    rmSync(this.path, { force: true });
    const { name, release } = socketName(this.path);
    try {
      await new Promise<void>((resolve, reject) => this.server.once('error', reject).listen(name, resolve)); // under umask 077
    } finally {
      release();
    }
    chmodSync(this.path, 0o600);
  }

  close(): void {
    this.server.close();
    rmSync(this.path, { force: true });
  }

  private hear(socket: Socket): void {
    let said = Buffer.alloc(0);
    let heard = false;
    socket.setTimeout(PATIENCE_MS, () => !heard && socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      said = Buffer.concat([said, chunk]);
      if (said.length > MOST) return socket.destroy();
      const end = said.indexOf('\n');
      if (end < 0 || heard) return;
      heard = true;
      const pin = said.subarray(0, end).toString('utf8');
      said.fill(0);
      void this.unseal(pin).then((answer) => socket.end(`${answer}\n`));
    });
  }

  private async unseal(pin: string): Promise<string> {
    if (this.busy) return JSON.stringify(seen(new Fault('conflict', 'unseal-busy', 'a PIN is just being tried')));
    this.busy = true;
    try {
      await this.attempt(pin);
      this.close();
      return 'unsealed';
    } catch (error) {
      return JSON.stringify(seen(error instanceof HsmError ? new Fault('forbidden', error.code, error.message) : error));
    } finally {
      this.busy = false;
    }
  }
}

/** Gives a PIN to the sealed token process behind `socket`. Rejects with `not-sealed` when none waits for one, else with the token's own refusal. */
export async function unseal(socket: string, pin: string): Promise<void> {
  if (/[\r\n\0]/.test(pin) || pin === '' || Buffer.byteLength(pin) >= MOST)
    throw new Fault('malformed', 'pin-malformed', `a PIN is one line of at most ${MOST - 1} bytes`);
  const { name, release } = socketName(unsealSocket(socket));
  const door = connect({ path: name, allowHalfOpen: true });
  try {
    await new Promise<void>((resolve, reject) => door.once('connect', resolve).once('error', reject));
    door.write(`${pin}\n`);
    const answer = (await text(door)).trim();
    if (answer === 'unsealed') return;
    throw answer === ''
      ? new Fault('unavailable', 'token-unavailable', 'the token process ended the conversation')
      : faultOf(faultOnWire.parse(JSON.parse(answer)));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!isFault(error) && (code === 'ENOENT' || code === 'ECONNREFUSED'))
      throw new Fault('conflict', 'not-sealed', 'no token process waits for a PIN here: it is not running, or has its PIN already');
    throw error;
  } finally {
    release();
    door.destroy();
  }
}
