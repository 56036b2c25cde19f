import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WireReply } from '../support/wire.js';

export interface Asked {
  /** performance.now() when it was asked. */
  at: number;
  /** Milliseconds until it was answered. */
  took: number;
  /** `200`, or `503 token-unavailable`; `-` where no answer came. */
  said: string;
}

/** Asks the same again and again, by so many at a time, until it is stopped. */
export function load(ask: () => Promise<WireReply>, clients: number): { stop(): Promise<Asked[]> } {
  const asked: Asked[] = [];
  let isOver = false;
  const client = async () => {
    while (!isOver) {
      const at = performance.now();
      const said = await ask().then(
        ({ status, json }) => (status < 400 ? String(status) : `${status} ${(json as { code?: string })?.code}`), // RFC 9457, or nothing of ours
        () => '-',
      );
      asked.push({ at, took: performance.now() - at, said });
      await sleep(5);
    }
  };
  const clients_ = Array.from({ length: clients }, client);
  return {
    stop: async () => {
      isOver = true;
      await Promise.all(clients_);
      return asked;
    },
  };
}
