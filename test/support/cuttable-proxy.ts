import { connect, createServer, type Socket } from 'node:net';

/** A TCP proxy whose line can be cut (connections end, new ones are refused) or hung (bytes stop, nothing ends), and mended. */
export interface CuttableProxy {
  port: number;
  cut(): void;
  /** At once, or when these bytes come by. */
  hang(at?: string): void;
  mend(): void;
  close(): Promise<void>;
}

export async function cuttableProxy(to: { host: string; port: number }): Promise<CuttableProxy> {
  const pairs = new Set<[Socket, Socket]>();
  let state: 'whole' | 'cut' | 'hung' = 'whole';
  let trap: string | undefined;
  const server = createServer((near) => {
    if (state === 'cut') return near.destroy();
    const far = connect(to);
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    for (const [one, other] of [pair, [far, near] as const]) {
      one.on('data', (bytes) => {
        if (trap !== undefined && bytes.includes(trap)) state = 'hung';
        if (state === 'whole') other.write(bytes);
      });
      one.on('error', () => undefined);
      one.on('close', () => {
        other.destroy();
        pairs.delete(pair);
      });
    }
    return undefined;
  });
  const port = await new Promise<number>((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
  const end = () => {
    for (const [near, far] of pairs) {
      near.destroy();
      far.destroy();
    }
  };
  return {
    port,
    cut: () => {
      state = 'cut';
      end();
    },
    hang: (at) => {
      if (at === undefined) state = 'hung';
      else trap = at;
    },
    mend: () => {
      trap = undefined;
      if (state === 'hung') end();
      state = 'whole';
    },
    close: async () => {
      end();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
