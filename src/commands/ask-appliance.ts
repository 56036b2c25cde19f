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

const answerLost = () =>
  new Fault(
    'unavailable',
    'answer-lost',
    'the appliance went away before it answered: what was asked may have been done, or not; look, then ask again',
  );

export const controlSocket = (home: string): string => join(home, 'run', 'control.sock');

/**
 * Asks the running appliance. Undefined when none is up. Rejects with what it refused, with `RequestFiled`, or with `answer-lost` when it went away meanwhile: the
 * act may have been done, or not.
 */
export async function askAppliance(home: string, act: ActName, args: unknown): Promise<{ value: unknown } | undefined> {
  const socketPath = controlSocket(home);
  if (!existsSync(socketPath)) return undefined;
  const text = await new Promise<string | undefined>((resolve, reject) => {
    // A connection of its own: a kept one may be closed by the other side in the moment of asking.
    const failed = (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(undefined);
      else reject(error.code === 'ECONNRESET' || error.code === 'EPIPE' ? answerLost() : error);
    };
    const asking = request({ agent: false, socketPath, method: 'POST', path: '/' }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
      response.on('error', failed);
    });
    asking.on('error', failed);
    asking.end(JSON.stringify({ act, args }));
  });
  if (text === undefined) return undefined;
  const answer = parsedJson(reply, Buffer.from(text));
  if ('request' in answer) throw new RequestFiled(answer.request);
  if ('code' in answer) throw new Fault(answer.isAway ? 'unavailable' : 'conflict', answer.code, answer.message);
  return answer;
}

/**
 * One of the acts of a long run. Never done alone: that would hold the home against the appliance that comes back meanwhile. Rejects as `askAppliance`, and with
 * `not-running` (`unavailable`) while none is up.
 */
export async function askRunning(home: string, act: ActName, args: unknown): Promise<unknown> {
  const answered = await askAppliance(home, act, args);
  if (!answered) throw new Fault('unavailable', 'not-running', `no appliance is up in ${home}: start it (ekms serve)`);
  return answered.value;
}
