import { RequestMethod, type Type } from '@nestjs/common';
import { METHOD_METADATA, PATH_METADATA } from '@nestjs/common/constants.js';
import { MetadataScanner } from '@nestjs/core';
import type { z } from 'zod';
import { type Admitted, type Answer, declared, type FormField, REFUSALS, type RouteContract } from '../access/index.js';
import { type JsonSchema, Schemas } from './openapi-schemas.js';
import { problemShape } from './problem-filter.js';

interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required: boolean;
  description?: string;
  schema: JsonSchema;
}

interface Response {
  description: string;
  headers?: Record<string, { description?: string; schema: JsonSchema }>;
  content?: Record<string, { schema?: JsonSchema }>;
}

interface Server {
  url: string;
  description: string;
  variables: Record<string, { default: string }>;
}

export interface Operation {
  operationId: string;
  summary: string;
  tags: string[];
  /** Where it is not the client listener alone. */
  servers?: Server[];
  security: Record<string, string[]>[];
  parameters?: Parameter[];
  requestBody?: { required: true; content: Record<string, { schema: JsonSchema }> };
  responses: Record<string, Response>;
}

export interface OpenApiDocument {
  openapi: '3.1.1';
  info: { title: string; version: string; description: string };
  servers: Server[];
  paths: Record<string, Record<string, Operation>>;
  components: { securitySchemes: Record<string, object>; schemas: Record<string, JsonSchema> };
}

/** Where each class of routes listens unless ekms.yaml says otherwise. */
const LISTENERS: Record<string, { scheme: 'https' | 'http'; port: string }> = {
  client: { scheme: 'https', port: '8443' },
  administration: { scheme: 'https', port: '8444' },
  staff: { scheme: 'https', port: '8445' },
  public: { scheme: 'http', port: '8480' },
  operation: { scheme: 'http', port: '9464' },
};

const SECURITY = {
  device: { type: 'mutualTLS', description: 'TLS 1.3 with the certificate of an enrolled device.' },
  app: {
    type: 'apiKey',
    in: 'header',
    name: 'Signature',
    description:
      'No key in itself but a signature of this one request by the app credential: RFC 9421, label `ekms`, over "@method" "@path" "content-digest" (docs/formats/enrolment.md).',
  },
  administrator: {
    type: 'apiKey',
    in: 'cookie',
    name: '__Host-ekms-administration',
    description:
      'The session of an administrator, begun by a passkey; it counts from one address, and for the listener’s own pages (Origin, Sec-Fetch-Site).',
  },
  staff: {
    type: 'apiKey',
    in: 'cookie',
    name: '__Host-ekms-staff',
    description:
      'The session of an employee’s browser; it counts from one address, and for the listener’s own pages (Origin, Sec-Fetch-Site).',
  },
} as const satisfies Record<Admitted, object>;

/** RFC 9421 §4.1, RFC 9530 §2: what the signature in `Signature` is about. */
const SIGNED_FIELDS: Parameter[] = [
  {
    name: 'Content-Digest',
    in: 'header',
    required: true,
    description: 'RFC 9530: sha-256 of the body',
    schema: { type: 'string', pattern: '^sha-256=:[A-Za-z0-9+/]{43}=:$' },
  },
  {
    name: 'Signature-Input',
    in: 'header',
    required: true,
    description: 'RFC 9421: covered components, created, nonce, keyid, alg',
    schema: { type: 'string', pattern: '^ekms=\\(' },
  },
];

interface Route {
  method: RequestMethod;
  path: string;
  admits: readonly Admitted[];
  contract: RouteContract;
  kinds: readonly string[];
}

/** The appliance's HTTP interface as OpenAPI 3.1: made from what the controllers' decorators and shapes say, never written by hand. Throws for a route without a contract. */
export function openApi(controllers: readonly Type[]): OpenApiDocument {
  const schemas = new Schemas();
  const paths: OpenApiDocument['paths'] = {};
  for (const controller of controllers)
    for (const name of new MetadataScanner().getAllMethodNames(controller.prototype as object)) {
      const handler = (controller.prototype as Record<string, () => unknown>)[name]; // the scanner names methods only
      const method: RequestMethod | undefined = handler && Reflect.getMetadata(METHOD_METADATA, handler);
      if (!handler || method === undefined) continue;
      const { kinds, admits, contract } = declared(handler, controller);
      if (!contract || kinds.length === 0) throw new Error(`${controller.name}.${name} is a route without a contract or a listener`);
      const path = pathOf(Reflect.getMetadata(PATH_METADATA, controller), Reflect.getMetadata(PATH_METADATA, handler));
      const route: Route = { method, path, admits, contract, kinds };
      paths[path] = { ...paths[path], [RequestMethod[method].toLowerCase()]: operation(route, schemas) };
    }
  return {
    openapi: '3.1.1',
    info: {
      title: 'EKMS',
      version: '1',
      description:
        'Each listener has routes of its own; elsewhere they do not exist. Whoever comes from a network that may not reach a listener gets no connection. Every refusal is a problem document (RFC 9457) whose `code` is stable. HEAD and OPTIONS answer 404. Bytes that are no request, or too long a header, are refused in the same form (400, 408, 417, 431, 501) before any route.',
    },
    servers: [serverOf('client')],
    paths: Object.fromEntries(Object.entries(paths).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    components: {
      securitySchemes: SECURITY,
      schemas: Object.fromEntries(Object.entries(schemas.components).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    },
  };
}

function operation(route: Route, schemas: Schemas): Operation {
  const { admits, kinds } = route;
  const { id, summary, path = {}, query = {}, body, text, form, answers, more = [] } = route.contract;
  const refused = refusals(route);
  const both = Object.keys(refused).find((status) => status in answers);
  if (both) throw new Error(`${id}: ${both} is an answer and a refusal`);
  const parameters = [
    ...Object.entries(path).map(([name, shape]) => parameter('path', name, shape, schemas)),
    ...Object.entries(query).map(([name, shape]) => parameter('query', name, shape, schemas)),
    ...(admits.includes('app') ? SIGNED_FIELDS : []),
  ];
  return {
    operationId: id,
    summary,
    tags: [route.path.split('/')[route.path.startsWith('/v1/') ? 2 : 1] ?? ''],
    ...(kinds.join() === 'client' ? {} : { servers: kinds.map(serverOf) }),
    security: admits.map((who) => ({ [who]: [] })),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body ? { requestBody: { required: true, content: { 'application/json': { schema: schemas.sent(body) } } } } : {}),
    ...(text ? { requestBody: { required: true, content: { 'text/plain': { schema: { type: 'string', description: text } } } } } : {}),
    ...(form ? { requestBody: { required: true as const, content: { 'multipart/form-data': { schema: formSchema(form) } } } } : {}),
    responses: {
      ...Object.fromEntries(Object.entries(answers).map(([status, answer]) => [status, response(answer, schemas)])),
      ...Object.fromEntries(
        Object.entries(refused).map(([status, codes]) => [status, refusal(Number(status), codes, more.includes(Number(status)), schemas)]),
      ),
    },
  };
}

/** A field may be given again: OpenAPI 3.1 §4.8.14.4 writes files as arrays of binary strings. */
function formSchema(form: Record<string, FormField>): JsonSchema {
  const properties = Object.entries(form).map(([name, { description, isFile }]): [string, JsonSchema] => [
    name,
    isFile ? { type: 'array', description, items: { type: 'string', format: 'binary' } } : { type: 'string', description },
  ]);
  const required = Object.keys(form).filter((name) => form[name]?.isRequired);
  return { type: 'object', properties: Object.fromEntries(properties), required };
}

function parameter(where: 'path' | 'query', name: string, shape: z.ZodType, schemas: Schemas): Parameter {
  const { description, ...schema } = schemas.sent(shape);
  return { name, in: where, required: !shape.safeParse(undefined).success, ...(description ? { description } : {}), schema };
}

function response({ description, json, type, headers }: Answer, schemas: Schemas): Response {
  return {
    description,
    ...(headers ? { headers: Object.fromEntries(Object.entries(headers).map(([name, says]) => [name, field(says)])) } : {}),
    ...(json ? { content: { 'application/json': { schema: schemas.answered(json) } } } : {}),
    // Bytes or text as the media type has them: no schema (OpenAPI 3.1 §4.8.14.3).
    ...(type ? { content: Object.fromEntries([type].flat().map((one) => [one, {}])) } : {}),
  };
}

const field = (description: string) => ({ description, schema: { type: 'string' } satisfies JsonSchema });

/** All codes by status: the route's own, its guard's, and what every route may answer. */
function refusals({ method, admits, kinds, contract: { path, query, body, problems = {}, more = [] } }: Route): Record<number, string[]> {
  const sources: Record<number, readonly string[]>[] = [
    { 404: ['route-unknown'], 500: ['defect'] },
    path || query || body ? { 400: ['request-malformed'] } : {},
    path ? { 414: ['path-too-long'] } : {},
    // An id of the path is parsed like a body; files and link tokens are looked up as they are.
    body || (path && 'id' in path) ? { 400: ['body-malformed'] } : {},
    // A body is read before it is known that the route wants none.
    method === RequestMethod.GET ? {} : { 413: ['body-too-large'], 415: ['media-type'] },
    kinds.includes('client') || kinds.includes('staff') ? REFUSALS.isolation : {},
    ...admits.map((who) => REFUSALS[who]),
    problems,
    Object.fromEntries(more.map((status) => [status, []])),
  ];
  const all: Record<number, string[]> = {};
  for (const source of sources)
    for (const [status, codes] of Object.entries(source))
      all[Number(status)] = [...new Set([...(all[Number(status)] ?? []), ...codes])].toSorted();
  return all;
}

/** @param open there are further codes, of acts that are described elsewhere */
function refusal(status: number, codes: string[], open: boolean, schemas: Schemas): Response {
  const shape = schemas.answered(problemShape);
  return {
    description: [...codes.map((code) => `\`${code}\``), ...(open ? ['what the act itself refuses'] : [])].join(', '),
    ...(status === 503 ? { headers: { 'Retry-After': field('Seconds until another try makes sense, where that is known') } } : {}),
    content: {
      'application/problem+json': {
        schema: open ? shape : { allOf: [shape, { type: 'object', properties: { code: { type: 'string', enum: codes } } }] },
      },
    },
  };
}

function serverOf(kind: string): Server {
  const { scheme = 'https', port = '443' } = LISTENERS[kind] ?? {};
  return {
    url: `${scheme}://{host}:{port}`,
    description: `the ${kind} listener`,
    variables: { host: { default: 'localhost' }, port: { default: port } },
  };
}

/** Nest's two halves of a path, `:name` as `{name}`; so is a last `*`, which may hold slashes. */
function pathOf(controller: unknown, handler: unknown): string {
  const parts = [controller, handler].flatMap((half) => String(half ?? '').split('/')).filter((part) => part !== '');
  return `/${parts.map((part) => part.replace(/^:(.+)$/, '{$1}').replace(/^\*$/, '{name}')).join('/')}`;
}
