import { Fault } from '../../foundation/index.js';
import { type Element, Fields, oidOf, readElement, TAG } from '../asn1/index.js';

export interface ContentInfo {
  type: string;
  content: Element;
}

/** ContentInfo (RFC 5652 §3). Line ends after it are forgiven: mail programs add them when a body is not base64. */
export function readContentInfo(bytes: Buffer): ContentInfo {
  const element = readElement(bytes);
  if (bytes.subarray(element.whole.length).some((octet) => octet !== 0x0a && octet !== 0x0d))
    throw new Fault('malformed', 'cms-malformed', 'something follows the CMS structure');
  const fields = Fields.of(element, TAG.sequence);
  const type = oidOf(fields.take(TAG.oid));
  return { type, content: new Fields(fields.take(0xa0)).take() };
}

export interface AlgorithmIdentifier {
  oid: string;
  parameters: Element | undefined;
}

export function algorithmOf(element: Element): AlgorithmIdentifier {
  const fields = Fields.of(element, TAG.sequence);
  return { oid: oidOf(fields.take(TAG.oid)), parameters: fields.rest()[0] };
}
