import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { intoFile } from '../../src/commands/request-commands.js';
import { replaceState } from '../../src/tokens/process/token-state.js';

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(join(tmpdir(), 'ekms-state-'));
});
afterEach(() => {
  jest.restoreAllMocks();
  fs.rmSync(folder, { recursive: true });
});

test('a disk with little room takes a file in pieces, or there is an error: the custody package is never half of one, nor what a command hands out', async () => {
  const write = fs.writeSync;
  let room = 100_000;
  // write(2): as many bytes as there is room for, and ENOSPC only where there is none.
  jest.spyOn(fs, 'writeSync').mockImplementation(((fd: number, bytes: Buffer, offset = 0, length = bytes.length - offset) => {
    const taken = Math.min(length, 8_192, room);
    if (taken === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    room -= taken;
    return write(fd, bytes, offset, taken);
  }) as never);
  const [before, after] = [randomBytes(30_000), randomBytes(30_000)];
  replaceState(folder, 'custody.json', before);
  expect(fs.readFileSync(join(folder, 'custody.json')).equals(before)).toBe(true);
  await intoFile(
    join(folder, 'evidence.zip'),
    async () => undefined,
    () => after,
  );
  expect(fs.readFileSync(join(folder, 'evidence.zip')).equals(after)).toBe(true);
  room = 20_000;
  expect(() => replaceState(folder, 'custody.json', after)).toThrow('no space left');
  expect(fs.readFileSync(join(folder, 'custody.json')).equals(before)).toBe(true);
  await expect(
    intoFile(
      join(folder, 'more.zip'),
      async () => undefined,
      () => after,
    ),
  ).rejects.toThrow('no space left');
  expect(fs.readdirSync(folder)).not.toContain('more.zip');
});
