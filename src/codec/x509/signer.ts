import { webcrypto } from 'node:crypto';

export type SignerAlgorithm = 'ecdsa-p384-sha384' | 'ecdsa-p256-sha256' | 'rsa-pkcs1-sha384';

/** A key that signs elsewhere (in a token). `sign` takes the message and answers r ‖ s for ECDSA. `publicKey` is SPKI, DER. */
export interface Signer {
  algorithm: SignerAlgorithm;
  publicKey: Buffer;
  sign(message: Uint8Array): Buffer | Promise<Buffer>;
}

const WEB: Record<SignerAlgorithm, { name: string; hash: string; namedCurve?: string }> = {
  'ecdsa-p384-sha384': { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' },
  'ecdsa-p256-sha256': { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  'rsa-pkcs1-sha384': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' },
};

/** What @peculiar/x509 wants to sign with a foreign key: a stand-in CryptoKey, its algorithm, and a WebCrypto whose `sign` knows the stand-in. */
export function signingWith(signer: Signer) {
  const { name, hash, namedCurve } = WEB[signer.algorithm];
  const algorithm = { name, hash: { name: hash }, ...(namedCurve ? { namedCurve } : {}) };
  const key = { type: 'private', extractable: false, usages: ['sign'], algorithm } as unknown as CryptoKey; // only handed through to our own sign below
  const subtle = new Proxy(webcrypto.subtle, {
    get(target, property) {
      if (property === 'sign')
        return async (_: unknown, __: unknown, data: ArrayBuffer) => {
          const signature = await signer.sign(new Uint8Array(data));
          return signature.buffer.slice(signature.byteOffset, signature.byteOffset + signature.length);
        };
      const value: unknown = Reflect.get(target, property);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const crypto = { subtle, getRandomValues: webcrypto.getRandomValues.bind(webcrypto) } as unknown as Crypto; // the two members that the library uses
  return { signingKey: key, signingAlgorithm: algorithm, crypto };
}
