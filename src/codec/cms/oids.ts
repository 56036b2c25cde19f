export const CONTENT = {
  data: '1.2.840.113549.1.7.1',
  signed: '1.2.840.113549.1.7.2',
  enveloped: '1.2.840.113549.1.7.3',
  authEnveloped: '1.2.840.113549.1.9.16.1.23',
} as const;

export const TRANSPORT = { rsa: '1.2.840.113549.1.1.1', oaep: '1.2.840.113549.1.1.7' } as const;
export const MGF1 = '1.2.840.113549.1.1.8';
export const P_SPECIFIED = '1.2.840.113549.1.1.9';
export const KEY_WRAP_PAD = '2.16.840.1.101.3.4.1.48';

/** Digest algorithms by OID, as node:crypto names them. SHA-1 is here because mails of old are. */
export const DIGEST: Readonly<Record<string, string>> = {
  '1.3.14.3.2.26': 'sha1',
  '2.16.840.1.101.3.4.2.4': 'sha224',
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};
