import { randomBytes, randomUUID } from 'node:crypto';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** A fresh id (RFC 9562 UUID version 4), lower case. */
export const newId = (): string => randomUUID();
export const isId = (text: string): boolean => UUID.test(text);

/** A certificate serial: 127 random bits, positive, never a counter (RFC 5280 §4.1.2.2). Lower-case hexadecimal, 32 digits. */
export function newSerial(): string {
  const bytes = randomBytes(16);
  // The first octet keeps INTEGER positive and its length constant.
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
