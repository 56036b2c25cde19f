import * as z from 'zod/mini';
import { Fault } from '../../../src/foundation/index.js';
import { type AppCredential, signedFields } from './app-credential.js';
import type { EnrolmentAnswer, Routes } from './contract.js';
import {
  type AddressCertificate,
  addressCertificate,
  type Decryption,
  type Device,
  decryption,
  device,
  type Enrolled,
  type Enrolment,
  enrolled,
  enrolment,
  type KeyUses,
  key,
  keyUses,
  type PdfRecovery,
  type PendingEnrolment,
  pdfRecovery,
  pendingEnrolment,
  type Recovered,
  type RecoveryCase,
  recovered,
  recoveryCase,
  type ServedKey,
  waiting,
} from './shapes.js';
import { type Answer, Transport, type TransportOptions } from './transport.js';
import { CLIENT_VERSION } from './version.js';

export interface EnrolmentRequest {
  address: string;
  /** DER. */
  csr: Buffer;
  /** SubjectPublicKeyInfo, DER. */
  delivery: Buffer;
  platform: string;
  name?: string;
}

type Body<Route extends keyof Routes> = Routes[Route]['body'];

export type AnswerOutcome = { state: 'enrolled'; device: Enrolled } | { state: 'waiting'; for: string; retryAfter: number };

/** Calls between two looks where the server names no time. */
const DEFAULT_RETRY_S = 5;

/** The appliance as a device sees it. Every refusal is an ApiProblem with its code. */
export class EkmsClient {
  readonly #transport: Transport;
  readonly #now: () => Date;

  constructor(options: TransportOptions, now: () => Date = () => new Date()) {
    this.#transport = new Transport(options);
    this.#now = now;
  }

  async requestEnrolment(app: AppCredential, ask: EnrolmentRequest): Promise<Enrolment> {
    const body: Body<'POST /v1/enrolments'> = {
      ...ask,
      csr: ask.csr.toString('base64'),
      delivery: ask.delivery.toString('base64'),
      version: CLIENT_VERSION,
    };
    return shaped(enrolment, await this.#signed(app, '/v1/enrolments', body));
  }

  async answerEnrolment(app: AppCredential, id: string, answer: EnrolmentAnswer): Promise<AnswerOutcome> {
    const reply = await this.#signed(app, `/v1/enrolments/${encodeURIComponent(id)}/answer`, answer);
    if (reply.status === 202) return { state: 'waiting', for: shaped(waiting, reply).for, retryAfter: reply.retryAfter ?? DEFAULT_RETRY_S };
    return { state: 'enrolled', device: shaped(enrolled, reply) };
  }

  /** `retryAfter` where a key is still pending. */
  async keys(): Promise<{ keys: ServedKey[]; retryAfter: number | undefined }> {
    const reply = await this.#transport.send('GET', '/v1/keys');
    return { keys: shaped(z.array(key), reply), retryAfter: reply.retryAfter };
  }

  async decrypt(
    id: string,
    ask: { scheme: Body<'POST /v1/keys/{id}/decryptions'>['scheme']; encryptedKey: Buffer; length: 16 | 24 | 32 },
  ): Promise<Decryption> {
    const body: Body<'POST /v1/keys/{id}/decryptions'> = { ...ask, encryptedKey: ask.encryptedKey.toString('base64') };
    return shaped(decryption, await this.#transport.send('POST', `/v1/keys/${encodeURIComponent(id)}/decryptions`, json(body)));
  }

  /** Entries about one's keys from index `from` of the log on; `since` is the size of the checkpoint that is remembered, `nonce` 32 bytes, base64url. */
  async uses({ from, since, nonce }: { from: number; since: number; nonce: string }): Promise<KeyUses> {
    return shaped(keyUses, await this.#transport.send('GET', `/v1/me/uses?from=${from}&since=${since}&nonce=${nonce}`));
  }

  /** Recovery cases whose keys are sealed to this device, newest first. */
  async recoveries(): Promise<RecoveryCase[]> {
    return shaped(z.array(recoveryCase), await this.#transport.send('GET', '/v1/recoveries'));
  }

  async openRecovery(
    id: string,
    key: string,
    mail?: { scheme: Body<'POST /v1/keys/{id}/decryptions'>['scheme']; encryptedKey: Buffer; length: 16 | 24 | 32 },
  ): Promise<Recovered> {
    const body: Body<'POST /v1/recoveries/{id}/openings'> = {
      key,
      ...(mail ? { mail: { ...mail, encryptedKey: mail.encryptedKey.toString('base64') } } : {}),
    };
    return shaped(recovered, await this.#transport.send('POST', `/v1/recoveries/${encodeURIComponent(id)}/openings`, json(body)));
  }

  /** Valid encrypting certificates of an address, newest first. */
  async certificates(address: string): Promise<AddressCertificate[]> {
    return shaped(z.array(addressCertificate), await this.#transport.send('GET', `/v1/certificates?email=${encodeURIComponent(address)}`));
  }

  /** The organisation as a reader of documents. */
  async pdfRecovery(): Promise<PdfRecovery> {
    return shaped(pdfRecovery, await this.#transport.send('GET', '/v1/pdf/recovery'));
  }

  async devices(): Promise<Device[]> {
    return shaped(z.array(device), await this.#transport.send('GET', '/v1/devices'));
  }

  async removeDevice(id: string): Promise<void> {
    await this.#transport.send('DELETE', `/v1/devices/${encodeURIComponent(id)}`);
  }

  async pendingEnrolments(): Promise<PendingEnrolment[]> {
    return shaped(z.array(pendingEnrolment), await this.#transport.send('GET', '/v1/enrolments'));
  }

  async confirmEnrolment(id: string, confirm: boolean): Promise<void> {
    const body: Body<'POST /v1/enrolments/{id}/confirmation'> = { confirm };
    await this.#transport.send('POST', `/v1/enrolments/${encodeURIComponent(id)}/confirmation`, json(body));
  }

  close(): void {
    this.#transport.close();
  }

  #signed(app: AppCredential, path: string, value: object): Promise<Answer> {
    const body = json(value);
    return this.#transport.send('POST', path, body, signedFields(app, 'POST', path, body, this.#now()));
  }
}

const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));

function shaped<T>(shape: z.ZodMiniType<T>, answer: Answer): T {
  const parsed = shape.safeParse(answer.body);
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues[0]?.path.join('.') ?? '';
  throw new Fault(
    'unavailable',
    'answer-malformed',
    `the server's answer is not what this version of mesign understands${where && ` (at ${where})`}`,
  );
}
