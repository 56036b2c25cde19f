import { z } from 'zod';
import { Fault } from '../../foundation/index.js';
import type { HsmErrorCode } from '../hsm.js';

/** A Fault as it crosses the token socket: exactly what a caller may see, never a stack or a cause. */
export const faultOnWire = z.strictObject({
  kind: z.enum([
    'malformed',
    'unauthenticated',
    'forbidden',
    'not-found',
    'conflict',
    'gone',
    'too-large',
    'unprocessable',
    'too-many',
    'unavailable',
    'misconfigured',
  ]),
  code: z.string().max(64),
  message: z.string().max(1000),
  retryAfter: z.number().nonnegative().optional(),
});
export type FaultOnWire = z.infer<typeof faultOnWire>;

/** Of what is not a Fault the caller learns nothing but that it was our failure. */
export function seen(error: unknown): FaultOnWire {
  if (!(error instanceof Fault)) {
    // The message may hold what was being worked on, so only the place is told, and only to the log of this process.
    const place =
      error instanceof Error
        ? [error.name, ...(error.stack ?? '').split('\n').filter((text) => /^\s+at /.test(text))].join('\n')
        : typeof error;
    process.stderr.write(`token defect: ${place}\n`);
    return { kind: 'unavailable', code: 'token-defect', message: 'the token process failed at this; its log says where' };
  }
  const { kind, code, message, retryAfter } = error;
  return { kind, code, message, ...(retryAfter === undefined ? {} : { retryAfter }) };
}

export const faultOf = ({ kind, code, message, retryAfter }: FaultOnWire): Fault => new Fault(kind, code, message, retryAfter);

/** What a caller sees of a token's refusal: the token is away, or these bytes are bad. */
export const hsmFault = ({ code, message }: { code: HsmErrorCode; message: string }): Fault =>
  code === 'token-down' ? unavailable('the token does not answer') : new Fault('conflict', code, message);

/** `token-unavailable`: worth another try in `retryAfter` seconds. */
export const unavailable = (message: string, retryAfter = 1): Fault => new Fault('unavailable', 'token-unavailable', message, retryAfter);
