import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { chainToRoot, readCertificate } from '../../client/src/x509/index.js';
import { TestHouse, vector } from './test-house.js';

interface Case {
  id: string;
  name: string;
  cert: string;
  other_certs?: string[];
  expect: 'valid' | 'invalid';
}

const certificate = (name: string) => readCertificate(readFileSync(vector('pkits', 'certs', name)));
const cases: Case[] = JSON.parse(readFileSync(vector('pkits', 'manifest.json'), 'utf8'));

/** Signatures, times, name chaining, basic constraints, key usage, name constraints, unknown extensions: what a client of one root checks. */
const SECTIONS = /^4(01|02|03|05|06|07|13|16)/;
/** Stricter than RFC 5280 on purpose: names are compared byte for byte, and DSA without its own parameters is not read. */
const REFUSED_ANYWAY = ['40105', '40303', '40305', '40311'];
/** Invalid only by a CRL: the client of an appliance that answers for revocation reads none. */
const REVOCATION = ['40505', '40507', '40705'];

describe('PKITS', () => {
  for (const { id, name, cert, other_certs = [], expect: expected } of cases.filter(
    (it) => SECTIONS.test(it.id) && !REVOCATION.includes(it.id),
  ))
    test(`${id} ${name} is ${expected}`, () => {
      const chain = () =>
        chainToRoot({
          leaf: certificate(cert),
          among: other_certs.map(certificate),
          root: certificate('TrustAnchorRootCertificate.crt'),
          at: new Date('2026-11-24'),
        });
      if (expected === 'valid' && !REFUSED_ANYWAY.includes(id)) expect(chain()[0]?.subject).toEqual(certificate(cert).subject);
      else expect(chain).toThrow(expect.objectContaining({ name: 'Fault' }));
    });
});

test('a critical extension that is not understood is refused, the same one uncritical is not', () => {
  const house = new TestHouse();
  house.openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Root', '-days', '2');
  const leafWith = (extension: string) => {
    house.openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'a.key', '-out', 'a.csr', '-subj', '/CN=Leaf');
    writeFileSync(house.path('extensions'), `1.2.3.4=${extension}DER:0500\n`);
    house.openssl('x509', '-req', '-in', 'a.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-extfile', 'extensions', '-out', 'a.pem');
    return readCertificate(readFileSync(house.path('a.pem')));
  };
  const root = readCertificate(readFileSync(house.path('ca.pem')));
  const chain = (leaf: ReturnType<typeof readCertificate>) => chainToRoot({ leaf, among: [], root, at: new Date() });
  expect(chain(leafWith(''))).toHaveLength(2);
  expect(() => chain(leafWith('critical,'))).toThrow('critical extension 1.2.3.4');
  house.remove();
});
