import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { openTransport } from '../../client/src/cms/index.js';
import { vector } from './test-house.js';

interface Group {
  privateKeyPkcs8: string;
  sha?: string;
  mgfSha?: string;
  tests: { tcId: number; comment: string; msg: string; ct: string; label?: string; result: 'valid' | 'invalid' | 'acceptable' }[];
}

const digest = (name = ''): string => name.toLowerCase().replace('-', '');
const groups = (name: string): Group[] => JSON.parse(readFileSync(vector('wycheproof', name), 'utf8')).testGroups;

describe.each([
  'rsa_oaep_2048_sha1_mgf1sha1_test.json',
  'rsa_oaep_2048_sha256_mgf1sha1_test.json',
  'rsa_oaep_2048_sha256_mgf1sha256_test.json',
])('Wycheproof %s', (name) => {
  for (const group of groups(name)) {
    const key = createPrivateKey({ key: Buffer.from(group.privateKeyPkcs8, 'hex'), format: 'der', type: 'pkcs8' });
    for (const { tcId, comment, msg, ct, label = '', result } of group.tests)
      test(`${tcId} ${comment} is ${result}`, () => {
        const transport = {
          scheme: 'oaep' as const,
          hash: digest(group.sha),
          mgfHash: digest(group.mgfSha),
          label: Buffer.from(label, 'hex'),
        };
        const opened = openTransport(key, transport, Buffer.from(ct, 'hex'));
        expect(opened?.toString('hex')).toBe(result === 'invalid' ? undefined : msg);
      });
  }
});

describe('Wycheproof rsa_pkcs1_2048_test.json', () => {
  for (const group of groups('rsa_pkcs1_2048_test.json')) {
    const key = createPrivateKey({ key: Buffer.from(group.privateKeyPkcs8, 'hex'), format: 'der', type: 'pkcs8' });
    for (const { tcId, comment, msg, ct, result } of group.tests)
      test(`${tcId} ${comment} is ${result}`, () => {
        const opened = openTransport(key, { scheme: 'pkcs1' }, Buffer.from(ct, 'hex'));
        // Implicit rejection: a wrong padding gives other bytes, never the message and never an error that tells it from a wrong key.
        if (result === 'invalid') expect(msg !== '' && opened?.toString('hex') === msg).toBe(false);
        else expect(opened?.toString('hex')).toBe(msg);
      });
  }
});
