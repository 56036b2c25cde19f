import { Fault } from '../../../src/foundation/index.js';
import {
  CONTENT,
  type ContentInfo,
  checkSignatures,
  type Enveloped,
  readContentInfo,
  readEnveloped,
  readSigned,
  type Signature,
} from '../cms/index.js';
import type { Certificate } from '../x509/index.js';
import { canonicalLines, decodedBody, type Entity, fieldOf, mediaTypeOf, parseEntity, partsOf } from './entity.js';

/** One wrapping that was taken off, outermost first. */
export type Layer =
  | { kind: 'encrypted'; enveloped: Enveloped; by: string }
  | { kind: 'signed'; signatures: Signature[]; certificates: Certificate[] }
  /** Parts beside the encrypted one, which anybody on the way may have added: left out. */
  | { kind: 'outside'; parts: number };

export interface Unwrapped {
  /** The innermost entity, byte for byte as it was encrypted or signed. */
  content: Buffer;
  layers: Layer[];
  /** The outermost From field, as the mail claims it. */
  from: string | undefined;
}

/** Opens one encrypted layer whole, or throws; `by` says which key did it. */
export type Opener = (enveloped: Enveloped) => Promise<{ content: Buffer; by: string }>;

const MIME_TYPES = ['application/pkcs7-mime', 'application/x-pkcs7-mime'];
const SIGNATURE_TYPES = ['application/pkcs7-signature', 'application/x-pkcs7-signature'];
/** Signed, encrypted and signed again is three (RFC 2634 §1.1), a list's footer around it one more; several times that is an attack. */
const MAX_DEPTH = 12;
const tooDeep = () => new Fault('malformed', 'mime-too-deep', `this mail is wrapped more than ${MAX_DEPTH} times`);

/** Takes off every S/MIME layer (RFC 8551) of a mail, or of a bare CMS file, down to the content. */
export async function unwrap(mail: Buffer, open: Opener): Promise<Unwrapped> {
  const layers: Layer[] = [];
  let content = mail;
  for (let depth = 0; ; depth++) {
    if (depth > MAX_DEPTH) throw tooDeep();
    const inner = await peel(content, layers, open);
    if (inner === undefined) return { content, layers, from: fieldOf(parseEntity(mail), 'from') };
    content = inner;
  }
}

/** One layer less; undefined when `bytes` is the content itself. */
async function peel(bytes: Buffer, layers: Layer[], open: Opener): Promise<Buffer | undefined> {
  if (isBareCms(bytes)) return peelCms(readContentInfo(bytes), layers, open);
  const entity = parseEntity(bytes);
  const { type, parameters } = mediaTypeOf(entity);
  if (isCmsPart(entity)) return peelCms(readContentInfo(decodedBody(entity)), layers, open);
  if (type === 'multipart/signed' && SIGNATURE_TYPES.includes(parameters.get('protocol')?.toLowerCase() ?? ''))
    return peelDetached(entity, layers);
  // Only from the outside: parts inside an encryption belong to its author, and are content.
  if (type.startsWith('multipart/') && !layers.some((layer) => layer.kind === 'encrypted')) return encryptedPart(entity, layers);
  return undefined;
}

async function peelCms(info: ContentInfo, layers: Layer[], open: Opener): Promise<Buffer | undefined> {
  if (info.type === CONTENT.enveloped || info.type === CONTENT.authEnveloped) {
    const enveloped = readEnveloped(info);
    const { content, by } = await open(enveloped);
    layers.push({ kind: 'encrypted', enveloped, by });
    return content;
  }
  if (info.type !== CONTENT.signed) return undefined;
  const signed = readSigned(info);
  // A list of certificates alone (RFC 8551 §3.8) is content, not a wrapping.
  if (signed.content === undefined) return undefined;
  layers.push({ kind: 'signed', signatures: checkSignatures(signed, signed.content), certificates: signed.certificates });
  return signed.content;
}

/** RFC 1847 §2.1: exactly two parts, what is signed and the signature. */
function peelDetached(entity: Entity, layers: Layer[]): Buffer {
  const [content, proof, ...more] = partsOf(entity);
  if (!content || !proof || more.length > 0)
    throw new Fault('malformed', 'mime-malformed', 'a multipart/signed must have exactly two parts');
  layers.push({ kind: 'signed', ...checkDetached(content, proof) });
  return content;
}

export function checkDetached(content: Buffer, proof: Buffer): { signatures: Signature[]; certificates: Certificate[] } {
  const entity = parseEntity(proof);
  if (!SIGNATURE_TYPES.includes(mediaTypeOf(entity).type))
    throw new Fault('malformed', 'mime-malformed', 'the second part of a multipart/signed is no signature');
  const signed = readSigned(readContentInfo(decodedBody(entity)));
  const asItStands = checkSignatures(signed, content);
  // Mailboxes rewrite line ends, and the signature was made over CRLF.
  const signatures = asItStands.every((signature) => signature.intact) ? asItStands : checkSignatures(signed, canonicalLines(content));
  return { signatures, certificates: signed.certificates };
}

function encryptedPart(entity: Entity, layers: Layer[]): Buffer | undefined {
  const parts = partsOf(entity);
  const wrapped = parts.filter((part) => holdsCms(part));
  if (wrapped.length > 1)
    throw new Fault('malformed', 'mime-ambiguous', 'this mail has more than one encrypted or signed part: save the one you mean by itself');
  if (wrapped[0] && parts.length > 1) layers.push({ kind: 'outside', parts: parts.length - 1 });
  return wrapped[0];
}

function holdsCms(part: Buffer, depth = 0): boolean {
  if (depth > MAX_DEPTH) throw tooDeep();
  const entity = parseEntity(part);
  const { type } = mediaTypeOf(entity);
  return (
    isCmsPart(entity) ||
    type === 'multipart/signed' ||
    (type.startsWith('multipart/') && partsOf(entity).some((inner) => holdsCms(inner, depth + 1)))
  );
}

/** RFC 8551 §3.2.1: gateways that do not know the type leave the file name. */
function isCmsPart(entity: Entity): boolean {
  const { type, parameters } = mediaTypeOf(entity);
  return MIME_TYPES.includes(type) || (type === 'application/octet-stream' && /\.p7m$/i.test(parameters.get('name') ?? ''));
}

/** A .p7m file: a SEQUENCE that opens with the OID of a kind we take off. */
function isBareCms(bytes: Buffer): boolean {
  if (bytes[0] !== 0x30 || bytes.length < 15) return false;
  const start = (bytes[1] ?? 0) > 0x80 ? 2 + ((bytes[1] ?? 0) & 0x7f) : 2;
  const type = bytes.subarray(start, start + 14).toString('hex');
  return /^06092a864886f70d01070[23]/.test(type) || type.startsWith('060b2a864886f70d0109100117');
}
