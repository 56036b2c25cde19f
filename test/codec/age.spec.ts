import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import {
  checkHeader,
  formatIdentity,
  makeHeader,
  newAgeIdentity,
  openPayload,
  openStanza,
  parseRecipient,
  readHeader,
  sealPayload,
} from '../../src/codec/age.js';

async function* one(bytes: Buffer, piece = 1000): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
}
const all = async (source: AsyncIterable<Buffer>) => {
  const parts: Buffer[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
};
const encrypt = async (plain: Buffer, recipient: string) => {
  const { header, fileKey } = makeHeader(recipient);
  return Buffer.concat([header, await all(sealPayload(fileKey, one(plain)))]);
};
const decrypt = async (file: Buffer, secret: Buffer) => {
  const header = readHeader(file);
  if (!header) throw new Error('no header');
  const fileKey = openStanza(header.stanza, secret);
  checkHeader(header, fileKey);
  return all(openPayload(fileKey, one(file.subarray(header.bytes.length), 70_000)));
};

test.each([0, 1, 65_535, 65_536, 65_537, 200_000])(
  '%i bytes come back as they went, and the program age opens the same file',
  async (size) => {
    const { secret, recipient } = newAgeIdentity();
    const plain = Buffer.alloc(size, 'a backup ');
    const file = await encrypt(plain, recipient);
    expect((await decrypt(file, secret)).equals(plain)).toBe(true);
    const folder = mkdtempSync(join(tmpdir(), 'ekms-age-'));
    try {
      writeFileSync(join(folder, 'key'), `${formatIdentity(secret)}\n`);
      const judged = spawnSync('age', ['-d', '-i', join(folder, 'key')], { input: file, maxBuffer: 1 << 20 });
      if (judged.error) throw new Error('the program age is missing (apt-get install age)');
      expect(judged.stderr.toString()).toBe('');
      expect(judged.stdout.equals(plain)).toBe(true);
      const made = execFileSync('age', ['-r', recipient], { input: plain });
      expect((await decrypt(made, secret)).equals(plain)).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test('a changed bit anywhere, a cut at a chunk and bytes added are refused', async () => {
  const { secret, recipient } = newAgeIdentity();
  const file = await encrypt(Buffer.alloc(140_000, 7), recipient);
  const header = readHeader(file)?.bytes.length ?? 0;
  let refused = 0;
  const places = [...Array(header).keys(), ...[0, 15, 16, 17, 65_551, 65_552, 131_100, file.length - header - 1].map((at) => header + at)];
  for (const at of places) {
    const changed = Buffer.from(file);
    changed[at] = (changed[at] ?? 0) ^ 1;
    await decrypt(changed, secret).catch(() => refused++);
  }
  for (const cut of [header, header + 16, header + 16 + 65_552, file.length - 1])
    await decrypt(file.subarray(0, cut), secret).catch(() => refused++);
  await decrypt(Buffer.concat([file, Buffer.of(0)]), secret).catch(() => refused++);
  expect(refused).toBe(places.length + 5);
});

test('somebody else’s identity opens nothing, and a wrong letter in a recipient is seen', async () => {
  const { recipient } = newAgeIdentity();
  await expect(decrypt(await encrypt(Buffer.from('x'), recipient), newAgeIdentity().secret)).rejects.toMatchObject({
    code: 'age-not-for-us',
  });
  const wrong = recipient.slice(0, -1) + (recipient.endsWith('q') ? 'p' : 'q');
  expect(() => parseRecipient(wrong)).toThrow(expect.objectContaining({ code: 'age-recipient-malformed' }));
});
