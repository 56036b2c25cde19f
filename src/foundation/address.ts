import { Fault } from './fault.js';

/** A mailbox address: `key` is what is compared and stored (all lower case, no folding), `shown` is as it was given with the domain in lower case. */
export interface Address {
  key: string;
  shown: string;
  domain: string;
}

const LOCAL = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/; // RFC 5322 §3.2.3 dot-atom
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** Normalises once, at the edge. The local part is compared without case; plus-tags and dots are kept: two mailboxes are never made one. */
export function parseAddress(text: string): Address {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the question is exactly whether anything but ASCII is in it
  if (/[^\x00-\x7f]/.test(text))
    throw new Fault('malformed', 'address-not-ascii', 'internationalised addresses (RFC 6531) are not supported');
  const at = text.lastIndexOf('@');
  const local = text.slice(0, at);
  const domain = text.slice(at + 1).toLowerCase();
  const labels = domain.split('.');
  if (
    at < 1 ||
    text.length > 254 ||
    local.length > 64 ||
    !LOCAL.test(local) ||
    labels.length < 2 ||
    !labels.every((label) => LABEL.test(label))
  )
    throw new Fault('malformed', 'address-malformed', 'this is not an e-mail address (RFC 5321 §2.3.11, dot-atom form)');
  return { key: `${local.toLowerCase()}@${domain}`, shown: `${local}@${domain}`, domain };
}
