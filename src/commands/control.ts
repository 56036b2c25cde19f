import { chmodSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { z } from 'zod';
import { isFault, parsedJson } from '../foundation/index.js';
import type { House } from '../house.js';
import { ActDesk, operator, shown } from './act-desk.js';
import { type ControlReply, controlSocket } from './ask-appliance.js';

const call = z.strictObject({ act: z.string().max(40), args: z.unknown() });

/** Bytes of one request at the control socket: a file to be imported, in base64. */
const MOST = 2 * 2 ** 20;

/** The operator's way into a running appliance: a socket in a folder that only the service's user may enter (0700). */
export async function serveControl(house: House, home: string): Promise<() => Promise<void>> {
  const path = controlSocket(home);
  rmSync(path, { force: true });
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MOST) incoming.destroy();
      else chunks.push(chunk);
    });
    incoming.on('end', async () => {
      try {
        const { act, args } = parsedJson(call, Buffer.concat(chunks));
        outgoing.end(JSON.stringify(await answer(new ActDesk(house), act, args)));
      } catch (error) {
        const { kind, code, message } = isFault(error)
          ? error
          : { kind: 'conflict', code: 'defect', message: 'something went wrong inside the appliance; its log says what' };
        if (!isFault(error)) console.error(error);
        outgoing.end(JSON.stringify({ isAway: kind === 'unavailable', code, message }));
      }
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  chmodSync(path, 0o600);
  return () => new Promise((resolve) => server.close(() => resolve()));
}

async function answer(desk: ActDesk, act: string, args: unknown): Promise<ControlReply> {
  const outcome = await desk.ask(act, args, operator());
  if (!('request' in outcome)) return { value: outcome.value ?? null };
  const { id, role, needed, expiresAt } = shown(outcome.request);
  return { request: { id, role, needed, expiresAt } };
}
