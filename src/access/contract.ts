import { SetMetadata, type Type } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { z } from 'zod';
import type { Role } from '../foundation/index.js';
import type { RouteClass } from './network-policy.js';

/** One answer of a route, and how it looks. */
export interface Answer {
  description: string;
  /** JSON of this shape; without it and without `type` the answer has no body. */
  json?: z.ZodType;
  /** Media type of a body that is not JSON; several where it depends on what was asked. */
  type?: string | readonly string[];
  /** Header fields worth knowing, by name, with what they say. */
  headers?: Record<string, string>;
}

/** A field of a form. */
export interface FormField {
  description: string;
  isFile?: boolean;
  isRequired?: boolean;
}

/**
 * What a route promises: the OpenAPI document is made of it and of the route's other decorators, so a route cannot be described other than it is reached.
 * `path`, `query` and `body` are the shapes that the route parses with.
 */
export interface RouteContract {
  /** Names the operation; unique. */
  id: string;
  summary: string;
  path?: Record<string, z.ZodType>;
  query?: Record<string, z.ZodType>;
  body?: z.ZodType;
  /** What a body of `text/plain` says, instead of `body`. */
  text?: string;
  /** Fields of `multipart/form-data`, instead of `body`. */
  form?: Record<string, FormField>;
  /** By status. */
  answers: Record<number, Answer>;
  /** Codes of its own refusals, by status. Those of its guard and of every route are added. */
  problems?: Record<number, readonly string[]>;
  /** Statuses with further codes than those listed: of whatever it has done for the caller. */
  more?: readonly number[];
}

/** Who a route's guard admits. */
export type Admitted = 'device' | 'app' | 'administrator' | 'staff';

/** Codes by status, for contracts. */
export const REFUSALS = {
  device: {
    401: ['device-certificate-missing'],
    403: [
      'device-untrusted',
      'device-unknown',
      'device-blocked',
      'employee-blocked',
      'client-too-old',
      'device-over-budget',
      'person-over-budget',
    ],
    503: ['storage-unavailable', 'storage-busy', 'audit-unavailable'],
  },
  app: {
    401: ['app-signature-malformed', 'app-signature-wrong', 'app-unknown', 'app-clock', 'app-replayed'],
    503: ['storage-unavailable', 'storage-busy', 'audit-unavailable'],
  },
  administrator: {
    401: ['session-missing', 'session-ended', 'session-elsewhere'],
    403: ['cross-site', 'role-missing'],
    503: ['storage-unavailable', 'storage-busy', 'audit-unavailable'],
  },
  staff: {
    401: ['session-missing', 'session-ended', 'session-elsewhere'],
    403: ['cross-site'],
    503: ['storage-unavailable', 'storage-busy', 'audit-unavailable'],
  },
  budget: { 429: ['budget-exceeded'] },
  /** Of routes that only a listener's own pages may call. */
  ownPages: { 403: ['cross-site'] },
  /** Of every route that keys could leave by. */
  isolation: { 503: ['isolation-broken'] },
  storage: { 503: ['storage-unavailable', 'storage-busy'] },
  audit: { 503: ['audit-unavailable'] },
  /** Of what releases keys: the log is not the one that was signed, or no witness was reached to say so. */
  log: { 503: ['audit-rolled-back', 'audit-forked', 'audit-token-older', 'audit-unwitnessed'] },
  /** The token process is away, full, locked out, or has a defect. */
  token: { 503: ['token-unavailable', 'token-busy', 'token-refused', 'token-defect'] },
} as const satisfies Record<string, Record<number, readonly string[]>>;

const CLASS = 'ekms:route-class';
const ADMITTED = 'ekms:admitted';
const CONTRACT = 'ekms:contract';
const ROLES = 'ekms:roles';

/** Routes of these classes' listeners, open to whoever the network policy lets in. */
export const On = (...kinds: RouteClass[]) => SetMetadata(CLASS, kinds);
export const Admits = (...who: Admitted[]) => SetMetadata(ADMITTED, who);
/** Which administrators; none named means every one. */
export const WithRoles = (...roles: Role[]) => SetMetadata(ROLES, roles);
export const Contract = (contract: RouteContract) => SetMetadata(CONTRACT, contract);

const reflector = new Reflector();
type Handler = (...args: never[]) => unknown;

/** What the decorators of a route say; the method's win over its class's. */
export function declared(
  handler: Handler,
  controller: Type,
): { kinds: readonly RouteClass[]; admits: readonly Admitted[]; roles: readonly Role[]; contract: RouteContract | undefined } {
  const read = <T>(key: string) => reflector.getAllAndOverride<T | undefined>(key, [handler, controller]);
  return {
    kinds: read<RouteClass[]>(CLASS) ?? [],
    admits: read<Admitted[]>(ADMITTED) ?? [],
    roles: read<Role[]>(ROLES) ?? [],
    contract: read<RouteContract>(CONTRACT),
  };
}
