import { type ArgumentsHost, Catch, type ExceptionFilter, HttpException } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { GuardedRequest, RefusalEntries } from '../access/index.js';
import { Fault, type FaultKind } from '../foundation/index.js';

const STATUS = {
  malformed: 400,
  unauthenticated: 401,
  forbidden: 403,
  'not-found': 404,
  conflict: 409,
  gone: 410,
  'too-large': 413,
  unprocessable: 422,
  'too-many': 429,
  unavailable: 503,
  misconfigured: 500,
} as const satisfies Record<FaultKind, number>;

/** What the framework itself refuses, in our codes. */
const FRAMEWORK: Record<number, [FaultKind, string, string]> = {
  400: ['malformed', 'request-malformed', 'the request is malformed'],
  404: ['not-found', 'route-unknown', 'there is nothing here'],
  413: ['too-large', 'body-too-large', 'the body is too large'],
  414: ['malformed', 'path-too-long', 'a segment of the path is too long'],
  415: ['malformed', 'media-type', 'this media type is not taken here'],
};

/** Every error as RFC 9457 `application/problem+json` with a stable `code`. What is no Fault is a defect: 500, no detail, told to the operator's log. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  constructor(
    private readonly refusals: RefusalEntries,
    private readonly defect: (error: unknown, request: string) => void,
    /** Hears the code of what was refused because something of ours is away. */
    private readonly away: (code: string) => void = () => undefined,
  ) {}

  async catch(error: unknown, host: ArgumentsHost): Promise<void> {
    const http = host.switchToHttp();
    const request = http.getRequest<GuardedRequest>();
    const { fault } = read(error);
    const told = fault ? await this.refusals.write(request, fault).catch((instead: unknown) => instead) : error;
    if (told instanceof Fault && told.kind === 'unavailable') this.away(told.code);
    // Of what the framework refused the error itself knows the status.
    answerProblem(told === fault ? error : told, request, http.getResponse<FastifyReply>(), this.defect);
  }
}

/** Also for what Fastify refuses before Nest sees it, such as a path that cannot be decoded. */
export function answerProblem(
  error: unknown,
  request: Pick<FastifyRequest, 'id'>,
  reply: FastifyReply,
  defect: (error: unknown, request: string) => void,
): void {
  const id = String(request.id);
  const { fault, status } = read(error);
  if (!fault) defect(error, id);
  if (fault?.retryAfter !== undefined) reply.header('retry-after', String(fault.retryAfter));
  void reply
    .status(status)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .send(
      problem(
        status,
        fault?.code ?? 'defect',
        fault?.message ?? 'something went wrong inside; the operator finds it under this instance id',
        id,
      ),
    );
}

function read(error: unknown): { fault?: Fault; status: number } {
  if (error instanceof Fault) return { fault: error, status: STATUS[error.kind] };
  const status = error instanceof HttpException ? error.getStatus() : statusOf(error);
  const known = status === undefined ? undefined : FRAMEWORK[status];
  return known && status !== undefined ? { fault: new Fault(...known), status } : { status: 500 };
}

/** RFC 9457 §3.1, with `code`: the stable name of what went wrong. */
export const problemShape = z
  .object({
    type: z.string().meta({ format: 'uri-reference' }),
    title: z.string(),
    status: z.int().min(400).max(599),
    code: z.string().meta({ description: 'Stable; scripts may rely on it.' }),
    detail: z.string().meta({ description: 'A sentence for people.' }),
    instance: z.string().meta({ description: "The request's id, as the appliance's log has it." }),
  })
  .meta({ id: 'Problem', description: 'RFC 9457' });
export type Problem = z.output<typeof problemShape>;

export const problem = (status: number, code: string, detail: string, instance: string): Problem => ({
  type: `/problems/${code}`,
  title: code.replaceAll('-', ' '),
  status,
  code,
  detail,
  instance,
});

function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return undefined;
  return typeof error.statusCode === 'number' ? error.statusCode : undefined;
}
