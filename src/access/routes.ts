import {
  applyDecorators,
  type CanActivate,
  createParamDecorator,
  type ExecutionContext,
  Inject,
  Injectable,
  UseGuards,
} from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { Fault, type Role } from '../foundation/index.js';
import type { AdministratorActor, AppActor, DeviceActor, StaffActor } from './actor.js';
import { AppCredentials } from './app-credentials.js';
import { Admits, declared, On, WithRoles } from './contract.js';
import { DeviceGuard } from './device-guard.js';
import { IsolationGuard } from './isolation-guard.js';
import { type Audience, Origins } from './origins.js';
import { peerOf } from './peer.js';
import type { Request } from './request.js';
import { SessionGuard } from './session-guard.js';

/** Fastify's request with what the guards put on it. The body of JSON requests is its bytes: signatures cover bytes, and each route parses them itself. */
export type GuardedRequest = FastifyRequest & { actor?: AppActor | DeviceActor | AdministratorActor | StaffActor };

const requestOf = (context: ExecutionContext): GuardedRequest => context.switchToHttp().getRequest<GuardedRequest>();
/** Where a request came from, for routes that nobody is admitted to yet. */
export function provenance(request: GuardedRequest): Request {
  const { 'ekms-client': client } = request.headers;
  return { id: String(request.id), network: peerOf(request.raw).network, ...(typeof client === 'string' ? { client } : {}) };
}

/**
 * The first guard of every route: a route answers only on the listener of its class; elsewhere it does not exist. Routes without a class answer
 * nowhere. Where keys could leave, it also holds that this machine is isolated.
 */
@Injectable()
export class RouteClassGuard implements CanActivate {
  constructor(@Inject(IsolationGuard) private readonly isolation: IsolationGuard) {}

  canActivate(context: ExecutionContext): boolean {
    const { kinds } = declared(context.getHandler() as () => unknown, context.getClass()); // Nest types a handler as bare Function
    const { kind } = peerOf(requestOf(context).raw);
    if (!kinds.includes(kind)) throw new Fault('not-found', 'route-unknown', 'there is nothing here');
    this.isolation.require(kind);
    return true;
  }
}

@Injectable()
class DeviceRouteGuard implements CanActivate {
  constructor(@Inject(DeviceGuard) private readonly guard: DeviceGuard) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    request.actor = await this.guard.admit(peerOf(request.raw).certificate(), provenance(request));
    return true;
  }
}

@Injectable()
class AppRouteGuard implements CanActivate {
  constructor(@Inject(AppCredentials) private readonly apps: AppCredentials) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    const header = (name: string) => {
      const value = request.headers[name];
      return typeof value === 'string' ? value : undefined;
    };
    const signed = {
      method: request.method,
      path: request.url,
      headers: { contentDigest: header('content-digest'), signatureInput: header('signature-input'), signature: header('signature') },
      body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
    };
    request.actor = await this.apps.admit(signed, provenance(request));
    return true;
  }
}

/** Lets a route be called by its own listener's pages alone. A session is asked for first, so that nobody learns more than that one is missing. */
@Injectable()
class OwnPagesGuard implements CanActivate {
  constructor(@Inject(Origins) private readonly origins: Origins) {}

  canActivate(context: ExecutionContext): boolean {
    const request = requestOf(context);
    this.origins.requireOwn(peerOf(request.raw).kind as Audience, request.method, request.headers); // its decorators below name no other class
    return true;
  }
}

@Injectable()
class AdministratorRouteGuard implements CanActivate {
  constructor(@Inject(SessionGuard) private readonly guard: SessionGuard) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    const { roles } = declared(context.getHandler() as () => unknown, context.getClass()); // as above
    request.actor = await this.guard.administrator(request.headers.cookie, roles, provenance(request));
    return true;
  }
}

@Injectable()
class StaffRouteGuard implements CanActivate {
  constructor(@Inject(SessionGuard) private readonly guard: SessionGuard) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    request.actor = await this.guard.staff(request.headers.cookie, provenance(request));
    return true;
  }
}

/** The same route for a person's device and for their browser: each listener has its own proof. */
@Injectable()
class PersonRouteGuard implements CanActivate {
  constructor(
    @Inject(DeviceGuard) private readonly devices: DeviceGuard,
    @Inject(SessionGuard) private readonly sessions: SessionGuard,
    @Inject(Origins) private readonly origins: Origins,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    const { kind } = peerOf(request.raw);
    if (kind === 'client') return new DeviceRouteGuard(this.devices).canActivate(context);
    await new StaffRouteGuard(this.sessions).canActivate(context);
    return new OwnPagesGuard(this.origins).canActivate(context);
  }
}

/** The same route for devices and for administrators. */
@Injectable()
class DeviceOrAdministratorGuard implements CanActivate {
  constructor(
    @Inject(DeviceGuard) private readonly devices: DeviceGuard,
    @Inject(SessionGuard) private readonly sessions: SessionGuard,
    @Inject(Origins) private readonly origins: Origins,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    if (peerOf(requestOf(context).raw).kind === 'client') return new DeviceRouteGuard(this.devices).canActivate(context);
    await new AdministratorRouteGuard(this.sessions).canActivate(context);
    return new OwnPagesGuard(this.origins).canActivate(context);
  }
}

/** Client routes for enrolled devices, by mutual TLS. */
export const ForDevices = () => applyDecorators(On('client'), Admits('device'), UseGuards(DeviceRouteGuard));
/** Client routes for requests that an app credential signed. */
export const ForApps = () => applyDecorators(On('client'), Admits('app'), UseGuards(AppRouteGuard));
/** Administration routes for whoever signed in and has one of these roles; none named: every administrator. */
export const ForAdministrators = (...roles: Role[]) =>
  applyDecorators(On('administration'), Admits('administrator'), WithRoles(...roles), UseGuards(AdministratorRouteGuard, OwnPagesGuard));
/** Both: client routes for enrolled devices, and administration routes for these roles. */
export const ForDevicesAndAdministrators = (...roles: Role[]) =>
  applyDecorators(
    On('client', 'administration'),
    Admits('device', 'administrator'),
    WithRoles(...roles),
    UseGuards(DeviceOrAdministratorGuard),
  );
/** Staff routes for whoever signed in. */
export const ForStaff = () => applyDecorators(On('staff'), Admits('staff'), UseGuards(StaffRouteGuard, OwnPagesGuard));
/** Routes that people reach by an enrolled device at the client listener, and by their browser at the staff listener. */
export const ForPeople = () => applyDecorators(On('client', 'staff'), Admits('device', 'staff'), UseGuards(PersonRouteGuard));
/** Routes of a listener's own pages before anybody has signed in. */
export const ForOwnPages = (audience: Audience) => applyDecorators(On(audience), UseGuards(OwnPagesGuard));

/** The actor that the route's guard admitted. */
export const Who = createParamDecorator((_: unknown, context: ExecutionContext) => requestOf(context).actor);
