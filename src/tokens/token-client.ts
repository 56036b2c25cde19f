import { setTimeout as sleep } from 'node:timers/promises';
import { Fault, isFault } from '../foundation/index.js';
import { EXIT, TokenChild } from './process/child.js';
import { TokenConnection } from './process/connection.js';
import type { TokenSettingsInput } from './process/settings.js';
import { CALL_MS, TokenCalls } from './process/token-calls.js';
import { unavailable } from './process/token-faults.js';
import type { TokenHealth } from './token.js';

/** Either start the process ourselves, or use one that is a unit of its own. */
export type TokenPlace = { entry: string; settings: TokenSettingsInput } | { socket: string };

const BACK_OFF_MS = [100, 200, 500, 1000, 2000, 5000];
/** A process that served this long was sound: the next start is not held back for what went before. */
const SOUND_MS = 10_000;
const RECONNECT_MS = 100;
/** How long a process of another unit is waited for at start. */
const APPEAR_MS = 15_000;
/** Milliseconds between two looks whether a person has given the PIN. */
const SEALED_MS = 500;
const STOP_MS = 12_000;

/** `Token` by a process of its own: starts it, starts it again when it dies, and answers `token-unavailable` at once while it is not there. */
export class TokenProcess extends TokenCalls {
  private connection: TokenConnection | undefined;
  private child: TokenChild | undefined;
  private refusal: Fault | undefined;
  private restarts = 0;
  private stopped = false;
  private loop: Promise<void> | undefined;

  constructor(private readonly place: TokenPlace) {
    super();
  }

  /** Resolves when the token answers. Rejects with the Fault that says what is wrong; then nothing is left running. */
  async start(): Promise<void> {
    if ('socket' in this.place) {
      const { socket } = this.place;
      await this.connect(socket, APPEAR_MS);
      await this.unsealed();
      this.loop = this.stayConnected(socket);
      return;
    }
    const { entry, settings } = this.place;
    this.child = await this.firstChild(entry, settings);
    try {
      await this.child.ready;
      await this.connect(settings.socket, CALL_MS);
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.loop = Promise.all([this.stayConnected(settings.socket), this.stayAlive(entry, settings, this.child)]).then(() => undefined);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.connection?.close();
    await this.child?.stop(STOP_MS);
    await this.loop;
  }

  /** For the operator and for tests that kill it. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  override async health(): Promise<TokenHealth> {
    if (this.refusal) return { state: 'refused', reason: this.refusal.message, queued: 0, recoveries: this.restarts };
    try {
      const health = await super.health();
      return { ...health, recoveries: health.recoveries + this.restarts };
    } catch (error) {
      if (!isFault(error)) throw error;
      return { state: 'down', reason: error.message, queued: 0, recoveries: this.restarts };
    }
  }

  protected override async call(op: string, args: unknown, limitMs = CALL_MS): Promise<unknown> {
    if (this.refusal) throw new Fault('unavailable', 'token-refused', this.refusal.message);
    if (!this.connection) throw unavailable('the token process is being started');
    return this.connection.call(op, args, limitMs);
  }

  /** The token process of an appliance that was killed needs a moment to see it and to end: until then its lock stands. */
  private async firstChild(entry: string, settings: TokenSettingsInput): Promise<TokenChild> {
    for (const until = Date.now() + APPEAR_MS; ; await sleep(RECONNECT_MS)) {
      const child = new TokenChild(entry, settings);
      const served = await child.ready.then(
        () => true,
        (error: unknown) => !isFault(error, 'token-in-use'),
      );
      if (served || Date.now() > until) return child;
    }
  }

  /** Without the PIN nothing can be begun, and only a person can give it: there is no limit to this. */
  private async unsealed(): Promise<void> {
    for (let said = false; !this.stopped; await sleep(SEALED_MS)) {
      const { state, reason } = await this.health();
      if (state !== 'sealed') return;
      if (!said) process.stderr.write(`the token is sealed: ${reason}\n`);
      said = true;
    }
  }

  private async connect(socket: string, withinMs: number): Promise<void> {
    const until = Date.now() + withinMs;
    while (!this.stopped) {
      try {
        this.connection = await TokenConnection.open(socket);
        return;
      } catch (error) {
        if (Date.now() > until) throw error;
        await sleep(RECONNECT_MS);
      }
    }
  }

  private async stayConnected(socket: string): Promise<void> {
    while (!this.stopped && !this.refusal) {
      await this.connection?.closed;
      this.connection = undefined;
      await sleep(RECONNECT_MS);
      await this.connect(socket, 0).catch(() => undefined);
    }
  }

  private async stayAlive(entry: string, settings: TokenSettingsInput, first: TokenChild): Promise<void> {
    let child = first;
    let since = Date.now();
    for (let attempt = 0; ; attempt++) {
      const status = await child.exited;
      if (this.stopped) return;
      if (status === EXIT.configuration) {
        // A wrong PIN or a damaged journal does not get better by trying again; a wrong PIN gets worse.
        this.refusal = await child.ready.then(
          () => unavailable('the token process refused to go on'),
          (error) => error as Fault,
        );
        this.connection?.close();
        return;
      }
      if (Date.now() - since > SOUND_MS) attempt = 0;
      await sleep(BACK_OFF_MS[attempt] ?? BACK_OFF_MS.at(-1));
      if (this.stopped) return;
      this.restarts++;
      since = Date.now();
      child = new TokenChild(entry, settings);
      this.child = child;
    }
  }
}
