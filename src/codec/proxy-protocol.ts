import { Fault } from '../foundation/index.js';

/** What a proxy says about a connection that it passes on. */
export interface ProxyHeader {
  /** Bytes that it took; the connection's own begin behind it. */
  length: number;
  /** Who connected to the proxy, as text; undefined for a connection of the proxy's own (LOCAL, such as its health checks). */
  source?: string;
}

/** The PROXY protocol, version 2, §2.2. */
const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const FIXED = 16;
/** Bytes. The addresses of IPv6 take 36; what follows them is for others. */
const MOST = 1_024;
/** By the byte of family and transport: bytes of one address, and of both with their ports. */
const STREAMS: Record<number, { address: number; whole: number }> = {
  17: { address: 4, whole: 12 },
  33: { address: 16, whole: 36 },
};

/**
 * Reads the header that a proxy sends before a connection's own bytes (PROXY protocol version 2; version 1, which is text, is not taken). Undefined while
 * it is not all there. Throws `proxy-header-malformed`.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  if (!SIGNATURE.subarray(0, bytes.length).equals(bytes.subarray(0, SIGNATURE.length))) throw malformed('it does not begin as one');
  if (bytes.length < FIXED) return undefined;
  const command = bytes.readUInt8(12);
  if (command !== 0x20 && command !== 0x21) throw malformed('its version or command is unknown');
  const length = FIXED + bytes.readUInt16BE(14);
  if (length > MOST) throw malformed('it is too long');
  if (bytes.length < length) return undefined;
  if (command === 0x20) return { length }; // §2.2: whatever follows is to be skipped
  const stream = STREAMS[bytes.readUInt8(13)];
  // UNSPEC would have the receiver take the proxy's own address: nobody whom it passes on is that.
  if (!stream || length < FIXED + stream.whole) throw malformed('it names no TCP address');
  checkExtras(bytes.subarray(FIXED + stream.whole, length));
  return { length, source: textOf(bytes.subarray(FIXED, FIXED + stream.address)) };
}

/** §2.2.1: type, length, value; they fill the header exactly. */
function checkExtras(bytes: Buffer): void {
  let at = 0;
  while (at < bytes.length) {
    if (at + 3 > bytes.length) throw malformed('its extension is cut');
    at += 3 + bytes.readUInt16BE(at + 1);
  }
  if (at !== bytes.length) throw malformed('its extension is cut');
}

const textOf = (address: Buffer): string =>
  address.length === 4 ? [...address].join('.') : (address.toString('hex').match(/.{4}/g) ?? []).join(':');

const malformed = (why: string): Fault => new Fault('malformed', 'proxy-header-malformed', `this is no PROXY header: ${why}`);
