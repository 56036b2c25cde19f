import { existsSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { z } from 'zod';
import { Fault, parsedJson } from '../foundation/index.js';
import type { ActName } from './acts.js';

const filed = z.strictObject({ id: z.string(), role: z.string(), needed: z.int(), expiresAt: z.string() });
const reply = z.union([
  z.strictObject({ value: z.unknown() }),
  z.strictObject({ request: filed }),
  /** `isAway`: another try may do. */
  z.strictObject({ isAway: z.boolean(), code: z.string(), message: z.string() }),
]);
export type ControlReply = z.output<typeof reply>;

/** The act takes other people: nothing was done yet, a request was filed. */
export class RequestFiled extends Fault {
  constructor(readonly request: z.output<typeof filed>) {
    const { role, needed, expiresAt } = request;
    super(
      'conflict',
      'request-filed',
      `this takes ${needed === 1 ? `a ${role}` : `${needed} different ${role}s`} to approve it until ${expiresAt}; nothing was done yet`,
    );
  }
}

export const controlSocket = (home: string): string => join(home, 'run', 'control.sock');

/** Asks the running appliance. Undefined when none is up. Rejects with what it refused, or with `RequestFiled`. */
export async function askAppliance(home: string, act: ActName, args: unknown): Promise<{ value: unknown } | undefined> {
  const socketPath = controlSocket(home);
  if (!existsSync(socketPath)) return undefined;
  const text = await new Promise<string | undefined>((resolve, reject) => {
    // A connection of its own: a kept one may be closed by the other side in the moment of asking.
    const asking = request({ agent: false, socketPath, method: 'POST', path: '/' }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    });
    asking.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNREFUSED' || error.code === 'ENOENT' ? resolve(undefined) : reject(error),
    );
    asking.end(JSON.stringify({ act, args }));
  });
  if (text === undefined) return undefined;
  const answer = parsedJson(reply, Buffer.from(text));
  if ('request' in answer) throw new RequestFiled(answer.request);
  if ('code' in answer) throw new Fault(answer.isAway ? 'unavailable' : 'conflict', answer.code, answer.message);
  return answer;
}
