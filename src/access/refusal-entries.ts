import { type AuditLog, type Fault, orRefused, type Storage } from '../foundation/index.js';
import { auditActor } from './actor.js';
import type { GuardedRequest } from './routes.js';

/** What an admitted actor asked for and was refused before a use case saw it (a body that cannot be read, an id that is none) is an entry too. */
export class RefusalEntries {
  constructor(private readonly log: { storage: Storage; audit: AuditLog }) {}

  /** Rejects with `fault` once its entry is durable, or with what kept the entry from being written. */
  async write({ actor }: Pick<GuardedRequest, 'actor'>, fault: Fault): Promise<never> {
    if (!actor) throw fault;
    const { id, network } = actor.request;
    const device = actor.kind === 'device' ? { device: actor.id, employee: actor.employee } : {};
    const event = { action: 'request.refuse', actor: auditActor(actor), request: id, personal: { network }, ...device } as const;
    return orRefused(this.log, event, () => Promise.reject(fault));
  }
}
