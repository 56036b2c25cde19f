import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { base64url, canonicalJson, Fault, parseAddress, sha256 } from '../../../src/foundation/index.js';
import type { Mailbox } from '../mailbox/index.js';
import type { AppCredential, EkmsClient, Enrolled } from '../sdk/index.js';
import type { Certificate } from '../x509/index.js';

export interface EnrolmentAsk {
  server: string;
  root: Certificate;
  app: AppCredential;
  address: string;
  /** Shown to the person's other devices. */
  name?: string;
  /** Which registered machine this is, where the organisation asks: its name on the list, or what its device management gave it. */
  registration?: { identifier: string } | { certificate: Buffer; key: KeyObject };
  /** Where the mailed half comes from: the mailbox itself, or somebody's hands. */
  half: { mailbox: () => Promise<Mailbox> } | { code: string };
}

export interface Patience {
  /** For the challenge mail to arrive. */
  mailMs: number;
  /** For somebody to confirm or approve. */
  approvalMs: number;
  pollMs: number;
}

/** Says to a person what is being waited for. */
export type Say = (words: string) => void;

/** The new keys of this device. */
export interface Device {
  identity: KeyObject;
  delivery: KeyObject;
}

export interface Begun extends Device {
  id: string;
  half2: string;
  nonce: string;
}

export const spkiOf = (key: KeyObject): Buffer => createPublicKey(key).export({ type: 'spki', format: 'der' });

/** Gives the answer to one enrolment, with whatever half1 is tried. */
export class Answer {
  constructor(
    private readonly ask: EnrolmentAsk,
    private readonly begun: Begun,
    private readonly client: EkmsClient,
    private readonly say: Say,
    private readonly patience: Patience,
  ) {}

  async give(half1: string): Promise<Enrolled> {
    const { begun, client, patience, say } = this;
    const answer = answerText(this.ask, begun, half1);
    const signature = base64url(sign('sha256', Buffer.from(answer), { key: begun.identity, dsaEncoding: 'ieee-p1363' }));
    const until = Date.now() + patience.approvalMs;
    for (let said = ''; ; ) {
      const outcome = await client.answerEnrolment(this.ask.app, begun.id, { answer, signature, nonce: begun.nonce });
      if (outcome.state === 'enrolled') return outcome.device;
      if (outcome.for !== said) say(waitingWords(outcome.for));
      said = outcome.for;
      if (Date.now() >= until)
        throw new Fault('unavailable', 'enrolment-waiting', 'nobody confirmed this device in time: ask for it, and enrol again');
      await sleep(Math.min(Math.max(outcome.retryAfter * 1000, patience.pollMs), 30_000));
    }
  }
}

function waitingWords(what: string): string {
  if (what === 'device')
    return 'waiting for a confirmation on one of your other devices ("mesign devices pending" and "mesign devices confirm ID" there), or by an administrator …';
  if (what === 'approval') return 'waiting for an administrator to approve this device …';
  if (what === 'directory')
    return 'waiting for you to confirm this device: sign in at the staff page with your organisation’s account (a mail says where) …';
  return 'waiting for the appliance …';
}

/** docs/formats/enrolment.md §3. */
function answerText(ask: EnrolmentAsk, begun: Begun, half1: string): string {
  const { crv = '', kty = '', x = '', y = '' } = createPublicKey(begun.identity).export({ format: 'jwk' });
  return base64url(
    sha256(
      canonicalJson({
        v: 1,
        enrolment: begun.id,
        address: parseAddress(ask.address).key,
        half1,
        half2: begun.half2,
        // RFC 7638 §3: the required members in lexicographic order.
        jkt: base64url(sha256(canonicalJson({ crv, kty, x, y }))),
        delivery: base64url(sha256(spkiOf(begun.delivery))),
        server: base64url(sha256(ask.root.der)),
      }),
    ),
  );
}
