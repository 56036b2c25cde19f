import { DeliveryFailure, type Envelope, MailTransport } from './mail-transport.js';

/** A working fake: mailboxes in memory. `refused` addresses do not exist; while `broken`, nothing is taken. */
export class MemoryTransport extends MailTransport {
  readonly accepted: (Envelope & { bytes: Buffer })[] = [];
  readonly refused = new Set<string>();
  broken = false;

  override async deliver(envelope: Envelope, bytes: Buffer): Promise<void> {
    if (this.broken) throw new DeliveryFailure('temporary', 'smtp-unreachable');
    if (this.refused.has(envelope.to)) throw new DeliveryFailure('permanent', 'smtp-refused');
    this.accepted.push({ ...envelope, bytes: Buffer.from(bytes) });
  }
}
