import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';

/** CBOR (RFC 8949) of the few shapes that an authenticator writes: whole numbers, texts, bytes, maps. */
function cbor(value: number | string | Uint8Array | Map<number | string, unknown>): Buffer {
  const head = (major: number, n: number): Buffer => {
    if (n < 24) return Buffer.of((major << 5) | n);
    return n < 256 ? Buffer.of((major << 5) | 24, n) : Buffer.of((major << 5) | 25, n >> 8, n & 255);
  };
  if (typeof value === 'number') return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === 'string') return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Map)
    return Buffer.concat([head(5, value.size), ...[...value].flatMap(([key, one]) => [cbor(key), cbor(one as string)])]);
  return Buffer.concat([head(2, value.length), value]);
}

const digest = (bytes: string | Uint8Array) => createHash('sha256').update(bytes).digest();
const UP_UV = 0x05;
const ATTESTED = 0x40;

/** An authenticator in software, with one ES256 passkey; what it signs is for the test to choose. */
export class SoftPasskey {
  readonly id = randomBytes(32);
  counter = 0;
  /** As a page does that another one holds in a frame. */
  isFramed = false;
  #userHandle = '';
  readonly #pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  constructor(
    private readonly rpId: string,
    private readonly origin: string,
  ) {}

  /** navigator.credentials.create, toJSON. */
  create(options: unknown): object {
    const { challenge, user } = options as { challenge: string; user: { id: string } };
    this.#userHandle = user.id;
    const { x = '', y = '' } = this.#pair.publicKey.export({ format: 'jwk' });
    const key = new Map<number | string, unknown>([
      [1, 2],
      [3, -7],
      [-1, 1],
      [-2, Buffer.from(x, 'base64url')],
      [-3, Buffer.from(y, 'base64url')],
    ]);
    const length = Buffer.of(0, this.id.length);
    const authData = Buffer.concat([this.#authenticatorData(UP_UV | ATTESTED), Buffer.alloc(16), length, this.id, cbor(key)]);
    const attestation = new Map<string, unknown>([
      ['fmt', 'none'],
      ['attStmt', new Map()],
      ['authData', authData],
    ]);
    return this.#credential({
      clientDataJSON: this.#clientData('webauthn.create', challenge).toString('base64url'),
      attestationObject: cbor(attestation as Map<string, unknown>).toString('base64url'),
      transports: ['usb'],
    });
  }

  /** navigator.credentials.get, toJSON. */
  get(options: unknown): object {
    const { challenge } = options as { challenge: string };
    this.counter += 1;
    const clientData = this.#clientData('webauthn.get', challenge);
    const authenticatorData = this.#authenticatorData(UP_UV);
    const signature = sign('sha256', Buffer.concat([authenticatorData, digest(clientData)]), this.#pair.privateKey);
    return this.#credential({
      clientDataJSON: clientData.toString('base64url'),
      authenticatorData: authenticatorData.toString('base64url'),
      signature: signature.toString('base64url'),
      userHandle: this.#userHandle,
    });
  }

  #credential(response: object): object {
    const id = this.id.toString('base64url');
    return { id, rawId: id, type: 'public-key', clientExtensionResults: {}, response };
  }

  #clientData(type: string, challenge: string): Buffer {
    return Buffer.from(JSON.stringify({ type, challenge, origin: this.origin, crossOrigin: this.isFramed }));
  }

  #authenticatorData(flags: number): Buffer {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(this.counter);
    return Buffer.concat([digest(this.rpId), Buffer.of(flags), counter]);
  }
}
