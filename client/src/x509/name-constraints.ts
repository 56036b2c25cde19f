import { children, type Element, Fields, oidOf, readWhole, TAG } from '../../../src/codec/asn1/index.js';
import { type Certificate, EXTENSION } from './certificate.js';

type Refusal = (why: string) => Error;

const RFC822 = 1;
const DNS = 2;
const DIRECTORY = 4;
const EMAIL_ADDRESS = '1.2.840.113549.1.9.1';

/** RFC 5280 §4.2.1.10 for mail addresses, DNS names and directory names; a constraint on any other form of name that the subject has is a refusal. */
export function assertNamesPermitted(constraints: Buffer, subject: Certificate, refusal: Refusal): void {
  const fields = Fields.of(readWhole(constraints), TAG.sequence);
  const permitted = bases(fields.optional(0xa0));
  const excluded = bases(fields.optional(0xa1));
  for (const name of namesOf(subject)) {
    const form = name.tag & 0x1f;
    const same = permitted.filter((base) => (base.tag & 0x1f) === form);
    const constrained = same.length > 0 || excluded.some((base) => (base.tag & 0x1f) === form);
    if (constrained && ![RFC822, DNS, DIRECTORY].includes(form)) throw refusal('a name constraint of a kind that is not understood');
    if ((same.length > 0 && !same.some((base) => isWithin(name, base))) || excluded.some((base) => isWithin(name, base)))
      throw refusal('a name that its authority may not certify');
  }
}

function bases(subtrees: Element | undefined): Element[] {
  return subtrees ? children(subtrees).map((subtree) => Fields.of(subtree, TAG.sequence).take()) : [];
}

function namesOf(certificate: Certificate): Element[] {
  const names = certificate.extensions.get(EXTENSION.subjectAltName);
  const subject = readWhole(certificate.subject);
  const directory = subject.content.length > 0 ? [{ tag: 0xa0 | DIRECTORY, whole: certificate.subject, content: certificate.subject }] : [];
  return [...directory, ...legacyAddresses(subject), ...(names ? children(readWhole(names.value)) : [])];
}

/** RFC 5280 §4.2.1.10: an address in the subject, where old certificates have it, is constrained like an rfc822Name. */
function legacyAddresses(subject: Element): Element[] {
  const pairs = children(subject).flatMap((rdn) => children(rdn).map((pair) => Fields.of(pair, TAG.sequence)));
  return pairs.flatMap((pair) => (oidOf(pair.take(TAG.oid)) === EMAIL_ADDRESS ? [{ ...pair.take(), tag: 0x80 | RFC822 }] : []));
}

function isWithin(name: Element, base: Element): boolean {
  if ((name.tag & 0x1f) !== (base.tag & 0x1f)) return false;
  if ((name.tag & 0x1f) === DIRECTORY) {
    const [inner, outer] = [children(readWhole(name.content)), children(readWhole(base.content))];
    return outer.every((rdn, index) => inner[index]?.whole.equals(rdn.whole) ?? false);
  }
  const [text, limit] = [name.content.toString('latin1').toLowerCase(), base.content.toString('latin1').toLowerCase()];
  if ((name.tag & 0x1f) === DNS) return limit === '' || text === limit || text.endsWith(`.${limit.replace(/^\./, '')}`);
  // An rfc822Name constraint is a mailbox, a host, or with a leading dot whatever lies below a host.
  if (limit.includes('@')) return text === limit;
  const host = text.slice(text.lastIndexOf('@') + 1);
  return limit.startsWith('.') ? host.endsWith(limit) : host === limit;
}
