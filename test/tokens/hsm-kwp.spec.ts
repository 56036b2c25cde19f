import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { kwp } from '../../src/tokens/key-wrap.js';

interface Vectors {
  testGroups: {
    keySize: number;
    tests: { tcId: number; comment: string; flags: string[]; key: string; msg: string; ct: string; result: string }[];
  }[];
}

// JSON.parse: the file's shape is the one that C2SP/wycheproof publishes (keywrap_test_schema_v1).
const { testGroups } = JSON.parse(readFileSync(join(__dirname, '../vectors/wycheproof/aes_kwp_test.json'), 'utf8')) as Vectors;
const hex = (text: string) => Buffer.from(text, 'hex');

describe.each(testGroups)('Wycheproof AES-KWP, $keySize-bit key', ({ tests }) => {
  test('every valid wrapping is made and opened to the byte', () => {
    for (const { tcId, key, msg, ct, result } of tests.filter((vector) => vector.result === 'valid')) {
      expect([tcId, result, kwp.wrap(hex(key), hex(msg))]).toEqual([tcId, result, hex(ct)]);
      expect([tcId, kwp.unwrap(hex(key), hex(ct))]).toEqual([tcId, hex(msg)]);
    }
  });

  test('every invalid wrapping is refused', () => {
    const opened = tests.filter(({ key, ct, result }) => {
      if (result !== 'invalid') return false;
      try {
        kwp.unwrap(hex(key), hex(ct));
        return true;
      } catch {
        return false;
      }
    });
    expect(opened.map(({ tcId, comment }) => `${tcId} ${comment}`)).toEqual([]);
  });
});
