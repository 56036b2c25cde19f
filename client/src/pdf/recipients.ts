import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { keyTransportRecipient } from '../../../src/codec/cms/index.js';
import { Fault } from '../../../src/foundation/index.js';
import type { HeldKey } from '../keys/index.js';
import type { EkmsClient } from '../sdk/index.js';
import { deviceOf, reason, type State, type Store } from '../store/index.js';
import { type Certificate, chainToRoot, readCertificate, readPem, USAGE } from '../x509/index.js';

/** Somebody who will open a document. */
export interface Recipient {
  /** As it was asked for: an address, or a file. */
  name: string;
  certificate: Certificate;
  /** The organisation: it may do everything, whatever others may. */
  isRecovery?: true;
}

/** The certificate of an address, as the appliance names it and as the pinned root vouches for it. Throws `recipient-unknown`, `chain-untrusted`. */
export async function findRecipient(client: EkmsClient, root: Certificate, address: string, now: Date): Promise<Recipient> {
  const found = await client.certificates(address);
  const [newest] = found;
  if (!newest)
    throw new Fault(
      'not-found',
      'recipient-unknown',
      `${address} has no valid encrypting certificate: either nobody of that address has enrolled, or the certificate has expired or was revoked`,
    );
  const certificate = readCertificate(newest.certificate);
  chainToRoot({ leaf: certificate, among: newest.chain.map((pem) => readCertificate(pem)), root, usage: USAGE.emailProtection, at: now });
  // An appliance that answers with somebody else's certificate would make somebody else the reader.
  if (!certificate.addresses.some((name) => name.toLowerCase() === address.toLowerCase()))
    throw new Fault(
      'forbidden',
      'recipient-mismatch',
      `the appliance gave the certificate of ${certificate.addresses.join(', ')} for ${address}: nothing is encrypted to it`,
    );
  return { name: address, certificate };
}

/**
 * The organisation as a reader of every document, asked for and kept for when there is no appliance at hand. Throws `chain-untrusted`: an appliance must not
 * make somebody from elsewhere a reader of everything.
 */
export async function fetchRecovery(store: Store, client: EkmsClient, now: Date): Promise<Recipient | undefined> {
  const { current, certificates, chain } = await client.pdfRecovery();
  const state = await store.read();
  const { root } = deviceOf(state);
  if (current !== null)
    chainToRoot({
      leaf: readCertificate(current),
      among: chain.map((pem) => readCertificate(pem)),
      root,
      usage: USAGE.emailProtection,
      at: now,
    });
  const recovery = { current, certificates };
  if (!isDeepStrictEqual(recovery, state.recovery)) await store.update((before) => ({ ...before, recovery }));
  return recoveryRecipient(recovery);
}

/** Its address is said each time: an appliance that names somebody else as the organisation is seen. */
export function organisation(certificate: Certificate): Recipient {
  return { name: `your organisation, by recovery cases: ${certificate.addresses.join(', ')}`, certificate, isRecovery: true };
}

/** As it was when the appliance was last asked. */
export function recoveryRecipient(kept: State['recovery']): Recipient | undefined {
  return kept?.current ? organisation(readCertificate(kept.current)) : undefined;
}

/** A certificate that somebody from elsewhere gave: PEM or DER. What it is worth is for the caller to know. Throws `certificate-unfit`. */
export function foreignRecipient(path: string, now: Date): Recipient {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new Fault('misconfigured', 'file-unreadable', `${path} cannot be read: ${reason(error)}`);
  }
  const certificate = bytes.includes('-----BEGIN CERTIFICATE-----') ? readPem(bytes.toString('latin1'))[0] : readCertificate(bytes);
  if (!certificate) throw new Fault('malformed', 'certificate-malformed', `${path} holds no certificate`);
  const unfit = (why: string) => new Fault('malformed', 'certificate-unfit', `the certificate in ${path} ${why}`);
  if (now < certificate.notBefore || now > certificate.notAfter)
    throw unfit(`is valid from ${certificate.notBefore.toISOString()} to ${certificate.notAfter.toISOString()}`);
  keyTransportRecipient(certificate.der);
  return { name: path, certificate };
}

/** The sender's own certificate: whoever encrypts can read what was sent. */
export function ownRecipient(held: readonly HeldKey[], address: string): Recipient {
  const key = held.find((candidate) => candidate.state === 'active' && candidate.mailbox === undefined);
  const certificate = key?.leaves[0];
  if (!certificate)
    throw new Fault(
      'misconfigured',
      'key-missing',
      'this device holds no active key of yours, and you would not be able to open the document: run "mesign keys"',
    );
  return { name: `${address} (you)`, certificate };
}

/** Each certificate once, in the order of naming. */
export function distinct(first: Recipient, others: readonly Recipient[]): [Recipient, ...Recipient[]] {
  const all = [first, ...others];
  const isNew = ({ certificate }: Recipient, index: number) =>
    all.findIndex((other) => other.certificate.der.equals(certificate.der)) === index;
  return [first, ...others.filter((recipient, index) => isNew(recipient, index + 1))];
}
