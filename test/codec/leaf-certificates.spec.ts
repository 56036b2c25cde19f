import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, X509Certificate as NodeCertificate, randomBytes, sign, webcrypto } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import {
  AuthorityInfoAccessExtension,
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  CertificatePolicyExtension,
  CRLDistributionPointsExtension,
  ExtendedKeyUsageExtension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import fc from 'fast-check';
import {
  authorityCertificate,
  deviceCertificate,
  type Issuer,
  POLICY,
  personCertificate,
  readDeviceCertificate,
  type Signer,
  type SignerAlgorithm,
  type Subject,
  USAGE,
} from '../../src/codec/x509/index.js';
import { signingWith } from '../../src/codec/x509/signer.js';

const urls = { crl: 'http://keys.corp.example/crl/people.crl', issuer: 'http://keys.corp.example/ca/people.cer' };
const spki = (key: { export(of: { type: 'spki'; format: 'der' }): Buffer }) => key.export({ type: 'spki', format: 'der' });
const PAIRS = {
  'ecdsa-p384-sha384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'ecdsa-p256-sha256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'rsa-pkcs1-sha384': generateKeyPairSync('rsa', { modulusLength: 2048 }),
};
const KEYS = [
  spki(generateKeyPairSync('rsa', { modulusLength: 3072 }).publicKey),
  spki(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey),
];

/** An authority; `sealed` signs the same bytes each time, so that two certificates can be compared whole. */
async function authority(algorithm: SignerAlgorithm, sealed?: Buffer): Promise<Issuer> {
  const { publicKey, privateKey } = PAIRS[algorithm];
  const signer: Signer = {
    algorithm,
    publicKey: spki(publicKey),
    sign: (message) =>
      sealed ??
      sign(algorithm.slice(-6), message, {
        key: createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })),
        dsaEncoding: 'ieee-p1363',
      }),
  };
  const time = { notBefore: new Date('2020-01-01'), notAfter: new Date('2060-01-01') };
  const certificate = await authorityCertificate({ self: signer }, 'CN=People, O=Prüf \\& Söhne', {
    serial: '01',
    publicKey: signer.publicKey,
    ...time,
  });
  return { certificate, signer, urls };
}

/** What @peculiar/x509 makes of the same: the judge. */
async function byLibrary(
  issuer: Issuer,
  subject: Subject,
  name: Name | string,
  profile: 'person' | 'device',
  names: JsonGeneralNames,
): Promise<Buffer> {
  const parent = new X509Certificate(issuer.certificate);
  const { signingKey, signingAlgorithm, crypto } = signingWith(issuer.signer);
  const isPerson = profile === 'person';
  const made = await X509CertificateGenerator.create(
    {
      ...{
        serialNumber: subject.serial,
        subject: name,
        issuer: parent.subjectName,
        notBefore: subject.notBefore,
        notAfter: subject.notAfter,
      },
      ...{ publicKey: subject.publicKey, signingKey, signingAlgorithm },
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(isPerson ? KeyUsageFlags.keyEncipherment : KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([isPerson ? USAGE.emailProtection : USAGE.clientAuth]),
        new CertificatePolicyExtension([POLICY[profile]]),
        new SubjectAlternativeNameExtension(names),
        await SubjectKeyIdentifierExtension.create(subject.publicKey),
        await AuthorityKeyIdentifierExtension.create(parent.publicKey),
        new CRLDistributionPointsExtension([urls.crl]),
        new AuthorityInfoAccessExtension({ caIssuers: urls.issuer }),
      ],
    },
    crypto,
  );
  return Buffer.from(made.rawData);
}

const uuid = fc.uuid();
const instant = fc
  .date({ min: new Date('1990-01-01'), max: new Date('2079-01-01'), noInvalidDate: true })
  .map((at) => new Date(Math.floor(at.getTime() / 1000) * 1000));
const subjects = fc.record({
  serial: fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map((bytes) => Buffer.from([((bytes[0] ?? 0) & 0x3f) | 0x40, ...bytes.subarray(1)]).toString('hex')),
  publicKey: fc.constantFrom(...KEYS),
  notBefore: instant,
  notAfter: instant,
});
// Not compared: the library takes a value that begins with # for hexadecimal, and keeps zeros in front of a number of a signature; see below.
const address = fc.stringMatching(/^[a-z0-9.!$%&'*+/=?^_{|}~-]{1,60}@[a-z0-9-]{1,20}\.example$/);

describe('certificates of people and devices are what @peculiar/x509 makes of the same content, byte for byte', () => {
  test.each(Object.keys(PAIRS) as SignerAlgorithm[])('signed by %s', async (algorithm) => {
    const length = { 'ecdsa-p384-sha384': 96, 'ecdsa-p256-sha256': 64, 'rsa-pkcs1-sha384': 256 }[algorithm];
    const signatures = fc
      .uint8Array({ minLength: length, maxLength: length })
      .map((bytes) => Buffer.from(bytes))
      .filter((bytes) => bytes[0] !== 0 && bytes[length / 2] !== 0);
    await fc.assert(
      fc.asyncProperty(signatures, subjects, address, uuid, uuid, async (signature, subject, mail, device, employee) => {
        const issuer = await authority(algorithm, signature);
        const person = await byLibrary(issuer, subject, new Name([{ CN: [mail] }]), 'person', [{ type: 'email', value: mail }]);
        expect((await personCertificate(issuer, mail, subject)).toString('hex')).toBe(person.toString('hex'));
        const delivery = Buffer.from(signature.subarray(0, 32));
        const uri = `ekms:device:${device}:${employee}:${delivery.toString('base64url')}`;
        const machine = await byLibrary(issuer, subject, `OU=Devices, CN=${device}`, 'device', [{ type: 'url', value: uri }]);
        expect((await deviceCertificate(issuer, { device, employee, delivery }, subject)).toString('hex')).toBe(machine.toString('hex'));
      }),
      { numRuns: 12 },
    );
  });

  test('where the library goes its own way: an address that begins with #, and signatures whose numbers are short', async () => {
    const issuer = await authority(
      'ecdsa-p256-sha256',
      Buffer.concat([Buffer.alloc(2), Buffer.alloc(30, 0x81), Buffer.alloc(1), Buffer.alloc(31, 0x7f)]),
    );
    const subject = { serial: '4f01', publicKey: KEYS[0] as Buffer, notBefore: new Date('2020-01-01'), notAfter: new Date('2050-01-01') };
    const { raw, subjectAltName } = new NodeCertificate(await personCertificate(issuer, '#anna@corp.example', subject));
    expect(subjectAltName).toBe('email:#anna@corp.example');
    const value = Buffer.concat([
      Buffer.from('3042021f00', 'hex'),
      Buffer.alloc(30, 0x81),
      Buffer.from('021f', 'hex'),
      Buffer.alloc(31, 0x7f),
    ]);
    expect(raw.subarray(-value.length).toString('hex')).toBe(value.toString('hex'));
  });

  test('OpenSSL takes them, strictly, and our own reader too', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ekms-leaf-'));
    try {
      for (const algorithm of Object.keys(PAIRS) as SignerAlgorithm[]) {
        const issuer = await authority(algorithm);
        const subject = {
          serial: `4f${randomBytes(15).toString('hex')}`,
          publicKey: KEYS[1] as Buffer,
          notBefore: new Date('2020-01-01'),
          notAfter: new Date('2055-01-01'),
        };
        const binding = { device: webcrypto.randomUUID(), employee: webcrypto.randomUUID(), delivery: randomBytes(32) };
        const device = await deviceCertificate(issuer, binding, subject);
        expect(readDeviceCertificate(device, [issuer.certificate])).toMatchObject(binding);
        const person = await personCertificate(issuer, 'anna@corp.example', { ...subject, publicKey: KEYS[0] as Buffer });
        const path = (name: string, der: Uint8Array) => {
          writeFileSync(join(folder, name), der);
          return (
            execFileSync('openssl', ['x509', '-inform', 'DER', '-in', join(folder, name), '-out', join(folder, `${name}.pem`)]) &&
            join(folder, `${name}.pem`)
          );
        };
        const root = path('root', issuer.certificate);
        for (const [purpose, file] of [
          ['sslclient', path('device', device)],
          ['smimeencrypt', path('person', person)],
        ] as const)
          expect(
            execFileSync('openssl', ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', root, file], { encoding: 'utf8' }),
          ).toContain(': OK');
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
