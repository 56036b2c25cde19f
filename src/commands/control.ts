import { chmodSync, existsSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { join } from 'node:path';
import { z } from 'zod';
import { Fault, isFault, parsedJson } from '../foundation/index.js';
import type { House } from '../house.js';
import { type ActName, ACTS } from './acts.js';

const call = z.strictObject({ act: z.string().max(40), args: z.unknown() });
const reply = z.union([z.strictObject({ value: z.unknown() }), z.strictObject({ code: z.string(), message: z.string() })]);

/** Bytes of one request at the control socket. */
const MOST = 65_536;
export const controlSocket = (home: string): string => join(home, 'run', 'control.sock');

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
        if (!Object.hasOwn(ACTS, act)) throw new Fault('not-found', 'act-unknown', `the running appliance does not know "${act}"; is it of the same version?`);
        const value = await ACTS[act as ActName](house, args as never);
        outgoing.end(JSON.stringify({ value: value ?? null }));
      } catch (error) {
        const { code, message } = isFault(error) ? error : { code: 'defect', message: 'something went wrong inside the appliance; its log says what' };
        if (!isFault(error)) console.error(error);
        outgoing.end(JSON.stringify({ code, message }));
      }
    });
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  chmodSync(path, 0o600);
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** Asks the running appliance. Undefined when none is up. */
export async function askAppliance(home: string, act: ActName, args: unknown): Promise<{ value: unknown } | undefined> {
  const socketPath = controlSocket(home);
  if (!existsSync(socketPath)) return undefined;
  const text = await new Promise<string | undefined>((resolve, reject) => {
    const asking = request({ socketPath, method: 'POST', path: '/' }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    });
    asking.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNREFUSED' || error.code === 'ENOENT' ? resolve(undefined) : reject(error)));
    asking.end(JSON.stringify({ act, args }));
  });
  if (text === undefined) return undefined;
  const answer = parsedJson(reply, Buffer.from(text));
  if ('code' in answer) throw new Fault('conflict', answer.code, answer.message);
  return answer;
}
