import { createHash, randomBytes } from 'node:crypto';
import { Fault } from '../../../foundation/index.js';
import {
  type Enveloped,
  type EnvelopeForm,
  envelopedData,
  keyTransportRecipient,
  readContentInfo,
  readEnveloped,
} from '../../cms/index.js';
import { damaged, excessive, unsupported } from '../faults.js';
import { LIMITS } from '../limits.js';
import { type Dict, integerOf, isDict, Name, nameOf, type Value } from '../values.js';
import { type CryptFilter, type Filters, IDENTITY, type Method } from './opening.js';

/** What of a document is encrypted. */
export type Components = 'all' | 'all-but-metadata' | 'attachments';

/** People who may do the same things. */
export interface Readers {
  /** DER */
  certificates: readonly Uint8Array[];
  /** 32 bits; see permissions.ts. */
  permissions: number;
}

export interface NewSecurity {
  dict: Dict;
  key: Buffer;
  components: Components;
}

const SEED = 20;
const FILTER = 'DefaultCryptFilter';
const EMBEDDED_FILTER = 'DefaultEmbeddedFile';
const METADATA_PLAIN = Buffer.alloc(4, 0xff);

/**
 * The Encrypt dictionary of a document for `groups` (ISO 32000-2 §7.6.5: V 5, AESV3, adbe.pkcs7.s5), as Acrobat shapes it: one envelope for each set of
 * permissions. A person in two groups has what the first allows.
 */
export function publicKeySecurity(groups: readonly Readers[], form: EnvelopeForm, components: Components): NewSecurity {
  const total = groups.reduce((sum, group) => sum + group.certificates.length, 0);
  if (total === 0) throw new Fault('malformed', 'recipients-missing', 'a document needs somebody who can open it');
  if (total > LIMITS.recipients)
    throw new Fault('too-large', 'recipients-too-many', `a document is encrypted to at most ${LIMITS.recipients} certificates`);
  const seed = randomBytes(SEED);
  const envelopes = groups.map(({ certificates, permissions }) => {
    const content = Buffer.alloc(SEED + 4);
    seed.copy(content);
    content.writeInt32BE(permissions | 0, SEED);
    return envelopedData(content, certificates.map(keyTransportRecipient), form);
  });
  const encryptsMetadata = components === 'all';
  const key = fileKey('sha256', seed, envelopes, encryptsMetadata, 32);
  seed.fill(0);
  const isAttachments = components === 'attachments';
  const filter: Dict = new Map<string, Value>([
    ['Type', new Name('CryptFilter')],
    ['AuthEvent', new Name(isAttachments ? 'EFOpen' : 'DocOpen')],
    ['CFM', new Name('AESV3')],
    ['Length', 256],
    ['EncryptMetadata', encryptsMetadata],
    ['Recipients', envelopes],
  ]);
  const name = isAttachments ? EMBEDDED_FILTER : FILTER;
  const everywhere = new Name(isAttachments ? IDENTITY : FILTER);
  const dict: Dict = new Map<string, Value>([
    ['Filter', new Name('Adobe.PubSec')],
    ['SubFilter', new Name('adbe.pkcs7.s5')],
    ['V', 5],
    ['Length', 256],
    ['CF', new Map([[name, filter]])],
    ['StmF', everywhere],
    ['StrF', everywhere],
    ...(isAttachments ? ([['EFF', new Name(EMBEDDED_FILTER)]] as const) : []),
  ]);
  return { dict, key, components };
}

/** The envelopes of an encrypted document, in its order, and how it is opened once the content of one is known. */
export interface PublicKeyLock {
  envelopes: Enveloped[];
  /** Throws `pdf-damaged` for a content that is not a seed and permissions. */
  filters(content: Buffer): { filters: Filters; permissions: number };
}

const METHODS: Readonly<Record<string, Method>> = { None: 'none', V2: 'rc4', AESV2: 'aes-128', AESV3: 'aes-256' };

/** Reads an Encrypt dictionary of Adobe.PubSec, V 1 to 5, adbe.pkcs7.s3 to s5 (ISO 32000-2 §7.6.5). Throws `pdf-unsupported`, `pdf-damaged`. */
export function readPublicKeyLock(dict: Dict): PublicKeyLock {
  const version = integerOf(dict.get('V')) ?? 0;
  const subFilter = nameOf(dict.get('SubFilter'));
  if (subFilter !== 'adbe.pkcs7.s3' && subFilter !== 'adbe.pkcs7.s4' && subFilter !== 'adbe.pkcs7.s5')
    throw unsupported(`its encryption is of the kind ${subFilter ?? 'without a name'}`);
  const table = dict.get('CF');
  const streams = nameOf(dict.get('StmF')) ?? IDENTITY;
  const strings = nameOf(dict.get('StrF')) ?? IDENTITY;
  const embedded = nameOf(dict.get('EFF')) ?? streams;
  const isOld = version < 4;
  const name = isOld ? FILTER : [streams, strings, embedded].find((each) => each !== IDENTITY);
  if (name === undefined) throw damaged('it says that it is encrypted, and that nothing of it is');
  const filter: Dict | undefined = isOld ? dict : isDict(table) ? dictOf(table.get(name)) : undefined;
  if (!filter) throw damaged('it names a crypt filter that it does not have');
  if (!isOld && [streams, strings, embedded].some((each) => each !== IDENTITY && each !== name))
    throw unsupported('its parts are encrypted in different ways');
  const recipients = filter.get('Recipients') ?? dict.get('Recipients');
  const lists = (Array.isArray(recipients) ? recipients : [recipients]).map((list) => {
    if (!Buffer.isBuffer(list)) throw damaged('its list of recipients is malformed');
    return list;
  });
  if (lists.length > LIMITS.recipients || lists.reduce((sum, list) => sum + list.length, 0) > LIMITS.recipientBytes)
    throw excessive('its list of recipients');
  const plainMetadata = [filter.get('EncryptMetadata'), dict.get('EncryptMetadata')].includes(false);
  const method = methodOf(version, filter);
  const length = method === 'aes-256' ? 32 : method === 'aes-128' ? 16 : rc4Bytes(version, filter, dict);
  return {
    envelopes: lists.map((list) => readEnveloped(readContentInfo(list))),
    filters(content) {
      if (content.length !== SEED + 4 && content.length !== SEED) throw damaged('its envelope holds something else than a key');
      const key = fileKey(method === 'aes-256' ? 'sha256' : 'sha1', content.subarray(0, SEED), lists, !plainMetadata, length);
      const named = new Map<string, CryptFilter>([[name, { method, key }]]);
      const permissions = content.length > SEED ? content.readInt32BE(SEED) : -1;
      const where = isOld ? { streams: FILTER, strings: FILTER, embedded: FILTER } : { streams, strings, embedded };
      return { filters: { named, ...where, encryptsMetadata: !plainMetadata }, permissions };
    },
  };
}

function methodOf(version: number, filter: Dict): Method {
  if (version === 1 || version === 2) return 'rc4';
  if (version !== 4 && version !== 5) throw unsupported(`its encryption is of version ${version}`);
  const spelled = nameOf(filter.get('CFM')) ?? 'None';
  const method = METHODS[spelled];
  if (method === undefined || method === 'none') throw unsupported(`it is encrypted by the method ${spelled}`);
  return method;
}

/** Bytes; the key's length is told in bits, by some programs of crypt filters in bytes. */
function rc4Bytes(version: number, filter: Dict, dict: Dict): number {
  if (version === 1) return 5;
  const told = integerOf(filter.get('Length')) ?? integerOf(dict.get('Length')) ?? 40;
  const bytes = told >= 40 ? told / 8 : told;
  if (!Number.isInteger(bytes) || bytes < 5 || bytes > 16) throw unsupported(`its key is of ${told} bits`);
  return bytes;
}

const dictOf = (value: Value | undefined): Dict | undefined => (isDict(value) ? value : undefined);

/** ISO 32000-2 §7.6.5.3: over the very bytes of the envelopes. */
function fileKey(hash: 'sha1' | 'sha256', seed: Buffer, envelopes: readonly Buffer[], encryptsMetadata: boolean, length: number): Buffer {
  const digest = createHash(hash).update(seed);
  for (const envelope of envelopes) digest.update(envelope);
  if (!encryptsMetadata) digest.update(METADATA_PLAIN);
  return digest.digest().subarray(0, length);
}
