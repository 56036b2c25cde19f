import { z } from 'zod';
import { fromBase64 } from './bytes.js';
import { Fault } from './fault.js';
import { isId } from './ids.js';

/** Parses a JSON body at the edge into a type that cannot be wrong. Throws `body-malformed`, naming the first place that does not fit. */
export function parsedJson<S extends z.ZodType>(shape: S, body: unknown): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body instanceof Uint8Array ? body : new Uint8Array()));
  } catch {
    throw new Fault('malformed', 'body-malformed', 'the body is not JSON in UTF-8');
  }
  return parsed(shape, value, 'the body');
}

export function parsed<S extends z.ZodType>(shape: S, value: unknown, what: string): z.output<S> {
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const place = issue?.path.join('.') ?? '';
  throw new Fault('malformed', 'body-malformed', `${place || what}: ${issue?.message ?? 'does not fit'}`);
}

const bytesIn = (alphabet: 'base64' | 'base64url', most: number) =>
  z
    .string()
    .max(Math.ceil((most * 4) / 3) + 4)
    .meta({ contentEncoding: alphabet })
    .transform((text, context) => {
      const bytes = fromBase64(text, alphabet);
      if (bytes) return bytes;
      context.addIssue({ code: 'custom', message: `must be ${alphabet}` });
      return z.NEVER;
    });

/** Shapes that several edges share. */
export const shapes = {
  id: z.string().refine(isId, 'must be a lower-case UUID').meta({ format: 'uuid' }),
  base64: (most: number) => bytesIn('base64', most),
  base64url: (most: number) => bytesIn('base64url', most),
} as const;
