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
import { Fault } from '../foundation/index.js';
import type { AppActor, DeviceActor, Request } from './actor.js';
import { AppCredentials } from './app-credentials.js';
import { Admits, declared, On } from './contract.js';
import { DeviceGuard } from './device-guard.js';
import { peerOf } from './peer.js';

/** Fastify's request with what the guards put on it. The body of JSON requests is its bytes: signatures cover bytes, and each route parses them itself. */
export type GuardedRequest = FastifyRequest & { actor?: AppActor | DeviceActor };

const requestOf = (context: ExecutionContext): GuardedRequest => context.switchToHttp().getRequest<GuardedRequest>();
const origin = (request: GuardedRequest): Request => ({ id: String(request.id), network: peerOf(request.raw.socket).network });

/** The first guard of every route: a route answers only on the listener of its class; elsewhere it does not exist. Routes without a class answer nowhere. */
@Injectable()
export class RouteClassGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { kinds } = declared(context.getHandler() as () => unknown, context.getClass()); // Nest types a handler as bare Function
    if (!kinds.includes(peerOf(requestOf(context).raw.socket).kind)) throw new Fault('not-found', 'route-unknown', 'there is nothing here');
    return true;
  }
}

@Injectable()
class DeviceRouteGuard implements CanActivate {
  constructor(@Inject(DeviceGuard) private readonly guard: DeviceGuard) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    request.actor = await this.guard.admit(peerOf(request.raw.socket).certificate(), origin(request));
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
    request.actor = await this.apps.admit(signed, origin(request));
    return true;
  }
}

/** Client routes for enrolled devices, by mutual TLS. */
export const ForDevices = () => applyDecorators(On('client'), Admits('device'), UseGuards(DeviceRouteGuard));
/** Client routes for requests that an app credential signed. */
export const ForApps = () => applyDecorators(On('client'), Admits('app'), UseGuards(AppRouteGuard));

/** The actor that the route's guard admitted. */
export const Who = createParamDecorator((_: unknown, context: ExecutionContext) => requestOf(context).actor);
