import { z } from 'zod';
import { VERSION } from '../access/index.js';
import { shapes } from '../foundation/index.js';

/** docs/formats/enrolment.md as shapes: what is parsed, and what is promised. */
const platform = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,31}$/);
/** A name that people read: one line, no control characters. */
const name = z
  .string()
  .max(64)
  .regex(/^[^\p{Cc}\p{Cs}]*$/u);
const time = z.string().meta({ format: 'date-time' });

/** Which registered machine this is, where policy asks (docs/formats/enrolment.md §1). */
const registration = z
  .union([
    z.strictObject({ identifier: z.string().max(64).meta({ description: 'As the organisation’s list names the machine.' }) }),
    z.strictObject({
      certificate: shapes.base64(8192).meta({ description: 'DER: of the machine, by the organisation’s device management.' }),
      signature: shapes.base64(1024).meta({ description: 'By that certificate’s key, SHA-256, over the statement.' }),
    }),
  ])
  .meta({ id: 'DeviceRegistration' });

export const enrolmentRequest = z
  .strictObject({
    address: z.string().max(320),
    csr: shapes.base64(4096).meta({ description: 'PKCS#10, DER: the identity key, ECDSA P-256.' }),
    delivery: shapes.base64(2048).meta({ description: 'SubjectPublicKeyInfo, DER: RSA of 3072 bits or more.' }),
    platform,
    version: z.string().regex(VERSION).optional().meta({ description: 'Of the client, such as 1.4.0.' }),
    name: name.optional(),
    registration: registration.optional(),
  })
  .meta({ id: 'EnrolmentRequest' });

export const enrolment = z
  .object({
    id: shapes.id,
    half: z.string().meta({ contentEncoding: 'base64url', description: 'The half of the token that is not mailed.' }),
    nonce: z.string().meta({ contentEncoding: 'base64', description: '32 bytes, by RSA-OAEP with SHA-256 under the delivery key.' }),
    expiresAt: time,
  })
  .meta({ id: 'Enrolment' });

export const enrolmentAnswer = z
  .strictObject({
    answer: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
    signature: shapes.base64url(64),
    nonce: shapes.base64url(64),
  })
  .meta({ id: 'EnrolmentAnswer' });

export const enrolledDevice = z
  .object({
    device: shapes.id,
    employee: shapes.id,
    certificates: z.array(z.string()).min(1).meta({ description: 'PEM: the device certificate, then its authority.' }),
  })
  .meta({ id: 'EnrolledDevice' });

export const waitingAnswer = z
  .object({ state: z.literal('waiting'), for: z.enum(['device', 'approval', 'directory']) })
  .meta({ id: 'WaitingAnswer' });

export const waitingEnrolment = z
  .object({ id: shapes.id, address: z.string(), platform: z.string(), name: z.string().nullable(), requestedAt: time })
  .meta({ id: 'WaitingEnrolment' });

export const enrolmentConfirmation = z.strictObject({ confirm: z.boolean() }).meta({ id: 'EnrolmentConfirmation' });

export const device = z
  .object({
    id: shapes.id,
    platform: z.string(),
    name: z.string().nullable(),
    state: z.enum(['active', 'frozen', 'revoked']),
    enrolledAt: time,
    current: z.boolean().meta({ description: 'Whether it is the device that asks.' }),
  })
  .meta({ id: 'Device' });
