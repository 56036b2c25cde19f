import { setTimeout as sleep } from 'node:timers/promises';
import { Fault } from '../../foundation/index.js';
import { HsmError } from '../hsm.js';
import type { TokenHealth } from '../token.js';
import type { Lane } from './lane.js';
import { unavailable } from './token-faults.js';
import type { KeysInForce } from './token-state.js';
import type { Order, Reply, Workman } from './workman.js';

/** The main thread's part in the module: it alone initialises, logs in and finalises. */
export interface ModuleOwner {
  /** C_Initialize, find the token, log in, hold the session that keeps the login. Throws HsmError. */
  begin(): void;
  /** C_Finalize. Every worker has closed its session before. Never throws. */
  end(): void;
}

const OPEN_MS = 20_000;
const PROBE_EVERY_MS = 1_000;
const BACK_OFF_MS = [200, 400, 800, 1600, 3200, 5000];

/**
 * Keeps the token usable: sees that it is gone (a worker says so, or the canary that is asked every second) and finds it again: every
 * session closed, finalise, initialise, log in, find the keys, canary; SoftHSM stays broken without that (facts: token.md §5).
 */
export class Keeper {
  #state: TokenHealth['state'] = 'down';
  #reason: string | undefined;
  #recoveries = 0;
  #probe: NodeJS.Timeout | undefined;
  #recovery: Promise<void> | undefined;
  #stopped = false;

  constructor(
    private readonly owner: ModuleOwner,
    private readonly lanes: readonly Lane[],
    /** Which of the token's signing keys serve now. */
    private readonly keys: () => KeysInForce,
    /** Looks at the keys that serve, whenever sessions were opened anew. May throw HsmError. */
    private readonly look: () => void,
  ) {}

  get health(): TokenHealth {
    const queued = this.lanes.reduce((sum, lane) => sum + lane.waiting, 0);
    return { state: this.#state, queued, recoveries: this.#recoveries, ...(this.#reason ? { reason: this.#reason } : {}) };
  }

  /** The first start, with what is to be looked at before anything is served. Throws what went wrong; nothing is tried again then, so that it shows. */
  async start<T>(inspect: () => T): Promise<T> {
    try {
      this.owner.begin();
      const found = inspect();
      await this.openSessions();
      this.#state = 'ready';
      this.#probe = setInterval(() => this.probe(), PROBE_EVERY_MS);
      return found;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Told by whoever notices first; the rest of them find the recovery under way. */
  lost(why: string): void {
    if (this.#state !== 'ready' || this.#stopped) return;
    process.stderr.write(`token lost: ${why}\n`);
    this.#state = 'down';
    this.#reason = 'the token does not answer; it is looked for again';
    this.pause(unavailable('the token does not answer; it is looked for again', 2));
    this.#recovery = this.recover();
  }

  /**
   * Every session is opened anew, each between two of its jobs: nobody who asks meanwhile is refused. For keys that came or went. Throws `token-unavailable` when
   * the token is not there: what came is found with it.
   */
  async refresh(): Promise<void> {
    const away = unavailable('the token does not answer; it is looked for again', 2);
    if (this.#state !== 'ready') throw away;
    try {
      this.look();
      const replies = await this.betweenJobs({ do: 'refresh', keys: this.keys() });
      for (const reply of replies) if (reply.kind === 'hsm') throw new HsmError(reply.code, reply.message);
    } catch (error) {
      if (!(error instanceof HsmError)) throw error;
      this.lost(error.message);
      throw away;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#probe);
    this.pause(unavailable('the token process is stopping'));
    await this.#recovery;
    await this.closeSessions();
    this.owner.end();
    await Promise.all(this.workmen.map((workman) => workman.end()));
  }

  private get workmen(): Workman[] {
    return this.lanes.flatMap((lane) => lane.workmen);
  }

  private async recover(): Promise<void> {
    for (let attempt = 0; !this.#stopped; attempt++) {
      await this.closeSessions();
      this.owner.end();
      try {
        this.owner.begin();
        await this.openSessions();
        this.look();
      } catch (error) {
        if (!(error instanceof HsmError)) throw error;
        if (error.code === 'pin-refused') return this.refuse(error);
        await sleep(BACK_OFF_MS[attempt] ?? BACK_OFF_MS.at(-1));
        continue;
      }
      process.stderr.write('token found again\n');
      this.#recoveries++;
      this.#reason = undefined;
      this.#state = 'ready';
      for (const lane of this.lanes) lane.resume();
      return;
    }
  }

  /** A wrong PIN is never tried twice: a token of the better sort locks. */
  private refuse(error: HsmError): void {
    process.stderr.write(`${error.message}\n`);
    this.#state = 'refused';
    this.#reason = 'the token refused the PIN; nothing is tried again until the process is started anew';
    this.pause(new Fault('unavailable', 'token-refused', this.#reason));
  }

  private probe(): void {
    if (this.#state !== 'ready') return;
    // A busy worker finds out by itself; one idle session speaks for the token.
    const idle = this.workmen.find((workman) => workman.load === 0);
    void idle?.ask({ do: 'probe' }, OPEN_MS).then((reply) => {
      if (reply.kind === 'hsm') this.lost(reply.message);
    });
  }

  private pause(why: Fault): void {
    for (const lane of this.lanes) lane.pause(why);
  }

  private async openSessions(): Promise<void> {
    const replies = await Promise.all(this.workmen.map((workman) => workman.ask({ do: 'open', keys: this.keys() }, OPEN_MS)));
    for (const reply of replies) {
      if (reply.kind === 'hsm') throw new HsmError(reply.code, reply.message);
      if (reply.kind === 'fault') throw new HsmError('token-down', reply.fault.message);
    }
  }

  private async closeSessions(): Promise<void> {
    // A key generation in hand is waited for: finalising under it would be undefined.
    await this.betweenJobs({ do: 'close' });
  }

  /** To every worker, who may be as long with its job in hand as its lane allows: whoever is stuck in that one is given up by the lane. */
  private async betweenJobs(order: Order): Promise<Reply[]> {
    return Promise.all(this.lanes.flatMap(({ workmen, stuck }) => workmen.map((workman) => workman.ask(order, stuck + OPEN_MS))));
  }
}
