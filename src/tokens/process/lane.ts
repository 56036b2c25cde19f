import { Fault } from '../../foundation/index.js';
import type { Done, Errand } from './desk.js';
import { faultOf, hsmFault, unavailable } from './token-faults.js';
import type { Reply, Workman } from './workman.js';

export interface LaneLimits {
  /** Jobs that may wait; one more is refused as `token-busy`. */
  waiting: number;
  /** Jobs that one worker has in hand at a time; a second spares it the wait for the main thread between two. */
  inHand: number;
  /** Milliseconds from asking to the answer. */
  deadline: number;
  /** Milliseconds after which a thread that has not come back is given up, and the process with it. */
  stuck: number;
}

interface Job {
  errand: Errand;
  resolve: (done: Done) => void;
  reject: (fault: Fault) => void;
  timer: NodeJS.Timeout;
}

/** Jobs of one kind, first come first served by the workers of this lane, so that a retrieval never waits behind a key generation. */
export class Lane {
  private readonly queue: Job[] = [];
  private closed: Fault | undefined;

  /** @param onLost is told when a worker finds that the token does not answer */
  constructor(
    readonly workmen: readonly [Workman, ...Workman[]],
    private readonly limits: LaneLimits,
    private readonly onLost: (why: string) => void,
  ) {
    for (const workman of workmen) workman.onFree = () => this.hand();
  }

  get waiting(): number {
    return this.queue.length;
  }

  /** Milliseconds that an order may wait behind what its worker has in hand. */
  get stuck(): number {
    return this.limits.stuck;
  }

  run(errand: Errand): Promise<Done> {
    if (this.closed) return Promise.reject(this.closed);
    if (this.queue.length >= this.limits.waiting)
      return Promise.reject(new Fault('unavailable', 'token-busy', 'the token has too much to do', 1));
    return new Promise((resolve, reject) => {
      const job: Job = { errand, resolve, reject, timer: setTimeout(() => this.expire(job), this.limits.deadline) };
      this.queue.push(job);
      this.hand();
    });
  }

  /** Refuses everything that waits and everything that comes, until `resume`. What a worker has in hand it finishes. */
  pause(why: Fault): void {
    this.closed = why;
    for (const job of this.queue.splice(0)) this.settle(job, () => job.reject(why));
  }

  resume(): void {
    this.closed = undefined;
  }

  private hand(): void {
    for (;;) {
      const workman = this.workmen.reduce((least, each) => (each.load < least.load ? each : least));
      const job = workman.load < this.limits.inHand ? this.queue.shift() : undefined;
      if (!job) return;
      void workman
        .ask({ do: 'judge', errand: job.errand }, this.limits.stuck)
        .then((reply) => this.settle(job, () => this.finish(job, reply)));
    }
  }

  private finish(job: Job, reply: Reply): void {
    if (reply.kind === 'done') job.resolve(reply);
    else job.reject(reply.kind === 'fault' ? faultOf(reply.fault) : hsmFault(reply));
    if (reply.kind === 'hsm' && reply.code === 'token-down') this.onLost(reply.message);
  }

  private expire(job: Job): void {
    const at = this.queue.indexOf(job);
    if (at >= 0) this.queue.splice(at, 1);
    job.reject(unavailable('the token did not answer in time'));
  }

  private settle(job: Job, how: () => void): void {
    clearTimeout(job.timer);
    how();
  }
}
