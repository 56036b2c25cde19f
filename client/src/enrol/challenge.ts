import { Fault, isFault, parseAddress } from '../../../src/foundation/index.js';
import { checkDetached, type Entity, fieldOf, mediaTypeOf, parseEntity, partsOf } from '../mime/index.js';
import { type Certificate, chainToRoot, POLICY, USAGE } from '../x509/index.js';

/** What a rightly signed challenge mail says. */
export interface Challenge {
  half: string;
  expires: Date;
  date: Date;
}

const refused = (why: string) => new Fault('forbidden', 'challenge-refused', why);

/** Whether a mail claims to be a challenge: only then is a refusal worth telling. */
export function claimsChallenge(mail: Buffer): boolean {
  try {
    return /^ACME:/i.test(fieldOf(parseEntity(mail), 'subject') ?? '');
  } catch {
    return false;
  }
}

/**
 * Reads a challenge mail (docs/formats/enrolment.md §2). Only what is inside the signature counts; the signer is the appliance's own mail certificate under
 * the pinned root. Throws `challenge-refused` with the reason.
 */
export function readChallenge(mail: Buffer, address: string, root: Certificate, now: Date): Challenge {
  try {
    const content = signedPart(mail, root, now);
    const { half } = /^ACME:[ \t]*(?<half>[A-Za-z0-9_-]{22})$/.exec(field(content, 'subject'))?.groups ?? {};
    if (!half) throw refused('its signed Subject holds no half of a token');
    if (mailboxOf(field(content, 'to')) !== parseAddress(address).key) throw refused('it was sent to another address');
    const [expires, date] = [new Date(field(content, 'ekms-expires')), new Date(field(content, 'date'))];
    if (!(expires > now)) throw refused('it has expired');
    if (Number.isNaN(date.getTime())) throw refused('it has no readable date');
    return { half, expires, date };
  } catch (error) {
    if (isFault(error)) throw refused(error.message);
    throw error;
  }
}

function signedPart(mail: Buffer, root: Certificate, now: Date): Entity {
  const outer = parseEntity(mail);
  if (mediaTypeOf(outer).type !== 'multipart/signed') throw refused('it is not signed');
  const [content, proof, ...more] = partsOf(outer);
  if (!content || !proof || more.length > 0) throw refused('it is not signed as RFC 1847 has it');
  const { signatures, certificates } = checkDetached(content, proof);
  const [signature, ...others] = signatures;
  if (!signature?.intact || !signature.signer || others.length > 0) throw refused('its signature does not hold');
  if (signature.digest === 'sha1') throw refused('its signature stands on SHA-1');
  chainToRoot({ leaf: signature.signer, among: certificates, root, usage: USAGE.emailProtection, policy: POLICY.mailSigning, at: now });
  const entity = parseEntity(content);
  const from = mailboxOf(field(entity, 'from'));
  if (!signature.signer.addresses.some((name) => parseAddress(name).key === from))
    throw refused('it was signed by another than its sender');
  return entity;
}

function field(entity: Entity, name: string): string {
  const value = fieldOf(entity, name);
  if (!value) throw refused(`the signed part has no field "${name}"`);
  return value;
}

/** `a@b` or `Name <a@b>` (RFC 5322 §3.4), one only. */
function mailboxOf(value: string): string {
  const address = /^(?:[^<>]*<([^<>\s]+)>|([^<>\s]+))$/.exec(value);
  return parseAddress(address?.[1] ?? address?.[2] ?? '').key;
}
