import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { loadProfile } from '../../src/tokens/pkcs11/profile.js';
import { PROFILES } from '../support/softhsm.js';

const folder = mkdtempSync(join(tmpdir(), 'ekms-profiles-'));
afterAll(() => rmSync(folder, { recursive: true }));

function loadChanged(change: (text: string) => string) {
  writeFileSync(join(folder, 'changed.yaml'), change(readFileSync(join(PROFILES, 'softhsm.yaml'), 'utf8')));
  return () => loadProfile(folder, 'changed');
}

test('the profiles that ship are whole', () => {
  expect(loadProfile(PROFILES, 'softhsm')).toMatchObject({ mechanisms: { kwp: 0x210a, rsaKeyPairGen: 0 }, oaep: { release: 'sha1' } });
  expect(loadProfile(PROFILES, 'kwp-0x210b')).toMatchObject({ mechanisms: { kwp: 0x210b }, oaep: { release: 'sha256' } });
});

test('a profile that is missing, or named by a path, is refused with its path', () => {
  expect(() => loadProfile(PROFILES, 'nobody')).toThrow(
    expect.objectContaining({ code: 'token-profile', message: expect.stringContaining('nobody.yaml') }),
  );
  expect(() => loadProfile(PROFILES, '../compose')).toThrow(expect.objectContaining({ code: 'token-profile' }));
});

test('every mistake in a profile is named at once, by its place', () => {
  const load = loadChanged((text) =>
    text
      .replace(/kwp: \S+/, 'kwp: AES')
      .replace('software: true', 'software: perhaps\n  shiny: true')
      .replace(/ecdsa: \S+/, ''),
  );
  expect(load).toThrow(/changed\.yaml: .*mechanisms\.kwp: .*mechanisms\.ecdsa: .*quirks\.software: .*shiny/s);
});

test('Ed25519 is named whole or not at all', () => {
  expect(loadChanged((text) => text.replace(/ +eddsa: .*\n/, ''))).toThrow(/mechanisms\.eddsa: edwardsKeyPairGen and eddsa are there both/);
  expect(loadChanged((text) => text.replace(/ +(eddsa|edwardsKeyPairGen): .*\n/g, ''))()).toMatchObject({ mechanisms: { ecdsa: 0x1041 } });
});

test('a release hash that the profile has no numbers for is refused', () => {
  expect(loadChanged((text) => text.replace('release: sha1', 'release: sha256'))).toThrow(/oaep\.release: is not among oaep\.hashes/);
});

test('a file that is no YAML is refused with the parser’s reason', () => {
  expect(loadChanged(() => 'name: [')).toThrow(expect.objectContaining({ code: 'token-profile' }));
});
