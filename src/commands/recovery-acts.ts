import { z } from 'zod';
import { assertion } from '../administration/index.js';
import { Fault } from '../foundation/index.js';
import type { House } from '../house.js';
import { RECOVERY_REASONS, type RecoveryApproval } from '../tokens/index.js';
import { act } from './act.js';
import { employeeOf } from './employee-of.js';

const address = z.string().max(254);
/** Looked up as it is: what is no id names nothing. */
const id = z.string().max(64);
const time = z.int().min(0);
const serial = z.string().regex(/^[0-9a-f]{1,40}$/);

/** An agent's signature by a key of their own, or what their passkey answered. */
export const approval = z.union([
  z.strictObject({ agent: z.string().max(80), signature: z.string().max(2_000) }),
  z.strictObject({ response: assertion }),
]);
type Given = z.output<typeof approval>;

/** A passkey is known by its id in the list in force; which agent it is, and whether it signed this very paper, is judged by whoever takes the approval. */
export async function approvalOf(house: House, given: Given): Promise<RecoveryApproval> {
  if ('signature' in given) return { agent: given.agent, signature: Buffer.from(given.signature, 'base64') };
  const { agents } = (await house.recoveryAgents.inForce()).agents;
  const { id: credential, response } = given.response;
  const known = agents.find(({ passkey }) => passkey?.id === credential);
  if (!known) throw new Fault('forbidden', 'approval-invalid', 'this passkey is not one of a recovery agent');
  const bytes = (text: string) => Buffer.from(text, 'base64url');
  return {
    agent: known.name,
    signature: bytes(response.signature),
    passkey: { clientData: bytes(response.clientDataJSON), authenticatorData: bytes(response.authenticatorData) },
  };
}

/** Recovery of a person's keys. None of these is 'two-persons' by itself: the token process demands the agents' own signatures, whoever asks. */
export const RECOVERY_ACTS = {
  'recovery.file': act({
    args: z.strictObject({
      address,
      device: id,
      reason: z.enum(RECOVERY_REASONS),
      reference: z.string().max(80),
      days: z.int(),
      keys: z.array(id).max(200).optional(),
      period: z.strictObject({ from: time, to: time }).optional(),
      message: z
        .array(z.strictObject({ serial, digest: z.string().max(50) }))
        .min(1)
        .max(1_000)
        .optional(),
      quietUntil: time.optional(),
      reading: z.boolean().optional(),
    }),
    roles: ['recovery-agent'],
    perform: async (house, { address: whose, ...ask }, by) =>
      house.recoveries.file({ ...ask, employee: await employeeOf(house, whose) }, by),
  }),
  'recovery.approve': act({
    args: z.strictObject({ case: id, by: approval }),
    roles: ['recovery-agent'],
    perform: async (house, { case: of, by: given }, by) => house.recoveries.approve(of, await approvalOf(house, given), by),
  }),
  // Taking away is done at once, by one person.
  'recovery.end': act({
    args: z.strictObject({ case: id }),
    roles: ['recovery-agent', 'security-officer', 'operator'],
    perform: (house, { case: of }, by) => house.recoveries.end(of, by),
  }),
  'recovery.release': act({
    args: z.strictObject({
      case: id,
      mail: z
        .strictObject({
          scheme: z.enum(['rsa-pkcs1', 'rsa-oaep-sha1', 'rsa-oaep-sha256']),
          encryptedKey: z.string().max(2_000),
          length: z.union([z.literal(16), z.literal(24), z.literal(32)]),
        })
        .optional(),
    }),
    roles: ['recovery-agent'],
    perform: async (house, { case: of, mail }, by) => {
      const released = await house.recoveries.release(of, mail && { ...mail, encryptedKey: Buffer.from(mail.encryptedKey, 'base64') }, by);
      return released.map((one) => ({
        key: one.key,
        delivery: ('delivery' in one ? one.delivery : one.wrapped).toString('base64'),
      }));
    },
  }),
  'recovery.list': act({
    args: z.strictObject({}),
    roles: ['recovery-agent', 'auditor'],
    perform: async (house) => {
      const { version, agents } = await house.recoveryAgents.inForce();
      const passkeys = agents.agents.flatMap(({ name, passkey }) => (passkey ? [{ agent: name, ...passkey }] : []));
      const names = [...new Set(agents.agents.map(({ name }) => name))];
      return {
        agents: { version, quorum: agents.quorum, names, passkeys },
        cases: await house.recoveries.list(),
        lists: await house.recoveryAgents.waiting(),
        transfers: await house.transfers.list(),
      };
    },
  }),
  'agents.file': act({
    args: z.strictObject({
      quorum: z.int(),
      agents: z
        .array(
          z.union([
            z.strictObject({ name: z.string().max(80), publicKey: z.string().max(4_000) }),
            z.strictObject({ name: z.string().max(80), administrator: address }),
          ]),
        )
        .max(48),
    }),
    roles: ['recovery-agent'],
    perform: (house, ask, by) => house.recoveryAgents.file(ask, by),
  }),
  'agents.approve': act({
    args: z.strictObject({ list: id, by: approval }),
    roles: ['recovery-agent'],
    perform: async (house, { list, by: given }, by) => house.recoveryAgents.approve(list, await approvalOf(house, given), by),
  }),
} as const;
