import { hash } from 'node:crypto';
import { ecdsaValue } from '../codec/cms/index.js';
import {
  checkpointText,
  fromBase64,
  keyId,
  type NoteKey,
  type Sha256,
  signatureLine,
  successionText,
  type TreeHead,
} from '../codec/merkle/index.js';
import type { Hsm } from './hsm.js';
import { auditNoteKey } from './note-key.js';
import type { AuditHead } from './token.js';

export const hashOf: Sha256 = (bytes) => hash('sha256', bytes, 'buffer');
export const treeHead = ({ size, root }: AuditHead): TreeHead => ({ size, root: fromBase64(root) ?? new Uint8Array() });

type Signer = Pick<Hsm, 'sign' | 'algorithm' | 'publicKey'>;

/** The key of the log, as this session has it in service. */
export const logKey = (hsm: Signer, origin: string): NoteKey =>
  auditNoteKey(origin, { algorithm: hsm.algorithm('audit'), publicKey: hsm.publicKey('audit') });

/** The text is made here: the audit key signs nothing but checkpoints, successions of its own, and cosignatures (warden.ts). */
export function signedCheckpoint(hsm: Signer, to: AuditHead): string {
  const text = checkpointText({ origin: to.origin, ...treeHead(to) });
  return `${text}\n${lineBy(hsm, to.origin, text)}`;
}

/** One key of the log takes over from another: signed by both. */
export function signedSuccession(former: Signer, successor: Signer, at: AuditHead): string {
  const { origin } = at;
  const text = successionText(hashOf, { origin, ...treeHead(at) }, logKey(former, origin), logKey(successor, origin));
  return `${text}\n${lineBy(former, origin, text)}${lineBy(successor, origin, text)}`;
}

function lineBy(hsm: Signer, origin: string, text: string): string {
  const key = logKey(hsm, origin);
  const raw = hsm.sign('audit', Buffer.from(text));
  return signatureLine({ name: key.name, keyId: keyId(hashOf, key), signature: key.type === 'ed25519' ? raw : ecdsaValue(raw) });
}
