import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { from, lastValueFrom, type Observable } from 'rxjs';
import { type AuditLog, orRefused, type Storage } from '../foundation/index.js';
import { auditActor } from './actor.js';
import type { GuardedRequest } from './routes.js';

/** Around every route: what an admitted actor asked for and was refused before a use case saw it (a body that cannot be read, an id that is none) is an entry too. */
@Injectable()
export class RefusalEntries implements NestInterceptor {
  constructor(private readonly log: { storage: Storage; audit: AuditLog }) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { actor } = context.switchToHttp().getRequest<GuardedRequest>();
    if (!actor) return next.handle();
    const { id, network } = actor.request;
    const device = actor.kind === 'device' ? { device: actor.id, employee: actor.employee } : {};
    const event = { action: 'request.refuse', actor: auditActor(actor), request: id, personal: { network }, ...device } as const;
    return from(orRefused(this.log, event, () => lastValueFrom<unknown, undefined>(next.handle(), { defaultValue: undefined })));
  }
}
