import { createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { isAssertion, isSignature } from '../codec/webauthn.js';
import { base64url, canonicalJson, Fault, fromBase64, isId, type Json, sha256 } from '../foundation/index.js';

/** Why a recovery is asked for; enumerated, so that the log can hold it. */
export const RECOVERY_REASONS = ['departed', 'deceased', 'lost-devices', 'continuity', 'legal'] as const;

const id = z.string().refine(isId);
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);

/**
 * What recovery agents approve, word for word (docs/formats/recovery.md): whose keys, which of them, for which device, why, until when. With
 * `message`, one mail's content-encryption key only: SHA-256 of the encrypted key in that mail.
 */
export const recoveryRequest = z.strictObject({
  v: z.literal(1),
  case: id,
  employee: id,
  keys: z.array(id).min(1).max(200),
  device: id,
  reason: z.enum(RECOVERY_REASONS),
  /** A file number or the like, outside of EKMS. */
  reference: z
    .string()
    .max(80)
    .regex(/^[\x20-\x7e]*$/),
  expires: z.int().positive(),
  message: digest.optional(),
  /**
   * Any message of this person, one content key at a time: somebody reads the mailbox of a leaver, or of who is away, until `expires`. Of every key, the
   * later ones included.
   */
  reading: z.literal(true).exactOptional(),
  /** The person hears of it only then. A quorum signs this too, so it is never one person's doing. */
  quietUntil: z.int().positive().optional(),
});
export type RecoveryRequest = z.output<typeof recoveryRequest>;

/** Longest time that an approved case stays open. */
export const RECOVERY_DAYS = 30;
/** The same of one that lets somebody read. */
export const READING_DAYS = 366;

export const recoveryBytes = (request: RecoveryRequest): Buffer => signedBytes('EKMS recovery request v1', request);
export const recoveryDigest = (request: RecoveryRequest): Buffer => sha256(recoveryBytes(request));

const spki = z.string().refine((text) => {
  try {
    const key = createPublicKey({ key: fromBase64(text, 'base64url') ?? Buffer.alloc(0), format: 'der', type: 'spki' });
    return ['ed25519', 'ec', 'rsa'].includes(key.asymmetricKeyType ?? '');
  } catch {
    return false;
  }
}, 'is not a public key (SubjectPublicKeyInfo, base64url) of Ed25519, ECDSA or RSA');

const listedAgent = z.strictObject({
  name: z.string().min(1).max(80),
  publicKey: spki,
  /** Where the key is a passkey: its id, and the page that it signs on. */
  passkey: z.strictObject({ id: z.string().min(1).max(1_400), rp: z.string().max(253), origin: z.string().max(300) }).exactOptional(),
});

/** Who may approve, as a list that a quorum of those before signed. One agent may have several keys; one key is never two agents'. */
export const agentList = z
  .strictObject({ quorum: z.int().min(2).max(16), agents: z.array(listedAgent).min(2).max(48) })
  .refine(({ quorum, agents }) => quorum <= new Set(agents.map(({ name }) => name)).size, 'the quorum is more than there are agents')
  .refine(({ agents }) => new Set(agents.map(({ publicKey }) => publicKey)).size === agents.length, 'a key is listed twice');
export type AgentList = z.output<typeof agentList>;

/** Versions count from the ceremony's list, which is 1. */
export const appointment = z.strictObject({
  v: z.literal(1),
  /** SHA-256 of this appliance's root certificate: agents of two appliances may have the same keys. */
  appliance: digest,
  version: z.int().min(2),
  list: agentList,
});
export type Appointment = z.output<typeof appointment>;

export const appointmentBytes = (of: Appointment): Buffer => signedBytes('EKMS recovery agents v1', of);

/** Who may approve: named at the ceremony, sealed in the custody package, or by a later list. */
export interface RecoveryAgents {
  quorum: number;
  agents: readonly { name: string; publicKey: Buffer; passkey?: { id: string; rp: string; origin: string } }[];
}

export const agentsOf = ({ quorum, agents }: AgentList): RecoveryAgents => ({
  quorum,
  agents: agents.map(({ publicKey, ...rest }) => ({ ...rest, publicKey: Buffer.from(publicKey, 'base64url') })),
});

const bytes = z.instanceof(Uint8Array).transform((value) => Buffer.from(value));
export const recoveryApproval = z.strictObject({
  agent: z.string().max(80),
  signature: bytes,
  /** By a passkey, which signs these instead of the bytes themselves. */
  passkey: z.strictObject({ clientData: bytes, authenticatorData: bytes }).exactOptional(),
});
export interface RecoveryApproval {
  agent: string;
  signature: Uint8Array;
  passkey?: { clientData: Uint8Array; authenticatorData: Uint8Array };
}

/**
 * Whether the agent signed these bytes with a key of theirs: the bytes themselves (Ed25519; ECDSA in DER or RSA PKCS#1 v1.5, with SHA-256: what a
 * smart card or openssl gives), or, by a passkey, a challenge that is their SHA-256.
 */
export function isApproval(signed: Buffer, { agent, signature, passkey }: RecoveryApproval, { agents }: RecoveryAgents): boolean {
  return agents.some((known) => {
    if (known.name !== agent || (known.passkey === undefined) !== (passkey === undefined)) return false;
    if (known.passkey && passkey)
      return isAssertion({ ...passkey, signature }, { ...known.passkey, publicKey: known.publicKey, challenge: sha256(signed) });
    try {
      return isSignature(known.publicKey, signed, signature);
    } catch {
      return false;
    }
  });
}

/** Throws `recovery-not-approved` unless a quorum of different agents signed these very bytes. */
export function requireQuorum(signed: Buffer, approvals: readonly RecoveryApproval[], agents: RecoveryAgents | undefined): void {
  if (!agents)
    throw new Fault(
      'forbidden',
      'no-recovery-agents',
      'no recovery agents were named at the ceremony of this token: nobody can approve a recovery',
    );
  const by = new Set(approvals.filter((approval) => isApproval(signed, approval, agents)).map(({ agent }) => agent));
  if (by.size < agents.quorum)
    throw new Fault(
      'forbidden',
      'recovery-not-approved',
      `${by.size} of the ${agents.quorum} recovery agents that are needed have signed this very request`,
    );
}

/** Throws as `requireQuorum`, and `recovery-expired` when the request's time is over. */
export function requireApproved(
  request: RecoveryRequest,
  approvals: readonly RecoveryApproval[],
  agents: RecoveryAgents | undefined,
  now: Date,
): void {
  requireQuorum(recoveryBytes(request), approvals, agents);
  const left = request.expires - now.getTime();
  if (left <= 0) throw new Fault('gone', 'recovery-expired', 'the time of this recovery case is over: file it anew');
  const days = request.reading ? READING_DAYS : RECOVERY_DAYS;
  if (left > days * 86_400_000) throw new Fault('forbidden', 'recovery-not-approved', `a recovery case ends within ${days} days`);
}

const signedBytes = (title: string, of: object): Buffer =>
  Buffer.from(`${title}\n${canonicalJson(JSON.parse(JSON.stringify(of)) as Json)}`); // what JSON.stringify made is JSON
/** The name of the appliance in what agents sign. */
export const applianceName = (root: Uint8Array): string => base64url(sha256(root));
