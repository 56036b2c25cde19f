import * as z from 'zod/mini';
import type { ProblemCode } from './contract.js';

/** The appliance's refusal: a problem document (RFC 9457). `code` is stable, `message` for people. */
export class ApiProblem extends Error {
  override readonly name = 'ApiProblem';
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** Seconds until another try makes sense. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

export const isProblem = (error: unknown, ...codes: ProblemCode[]): error is ApiProblem =>
  error instanceof ApiProblem && (codes.length === 0 || codes.some((code) => code === error.code));

const upTo = (length: number) => z.string().check(z.maxLength(length));
const document = z.partial(z.object({ code: upTo(100), title: upTo(1000), detail: upTo(1000) }));

/** Whatever a server that is not ours, or a proxy, says instead is a problem too. */
export function problemOf(status: number, body: unknown, retryAfter: number | undefined): ApiProblem {
  const parsed = document.safeParse(body);
  const { code, title, detail } = parsed.success ? parsed.data : {};
  return new ApiProblem(status, code ?? `http-${status}`, detail ?? title ?? `the server answered with status ${status}`, retryAfter);
}
