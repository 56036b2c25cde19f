import { createPrivateKey } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { decrypted, unlocked, vector } from './documents.js';

test.each(['minimal-pubkey-aes256.pdf', 'minimal-two-fields-pubkey-aes256.pdf'])('pyHanko 7db4e6fe: %s opens with its key', (name) => {
  const { bytes, told } = decrypted(vector(`pyhanko/${name}`));
  expect(told).toMatchObject({ pages: 1, warnings: [] });
  const open = unlocked(bytes);
  const contents = [...open.objects()]
    .filter((object) => object.data)
    .map((object) => Buffer.concat([...open.content({ ...object, data: object.data ?? { at: 0, length: 0 } }).pieces]).toString('latin1'));
  expect(contents.join()).toContain('Hello');
});

test('pyHanko 7db4e6fe: an envelope of an unknown cipher is refused by name', () => {
  const key = createPrivateKey({ key: vector('pyhanko/signer.key.pem'), passphrase: 'secret' });
  expect(() => unlocked(vector('pyhanko/minimal-pubkey-unknown-envelope-alg.pdf'), key)).toThrow(
    expect.objectContaining({ code: 'algorithm-unsupported' }),
  );
});
