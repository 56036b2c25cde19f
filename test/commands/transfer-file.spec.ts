import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import * as files from '../../src/commands/transfer-file.js';
import type { TransferHead, TransferLine } from '../../src/custody/index.js';
import { base64url, newId } from '../../src/foundation/index.js';
import { guardOff } from '../support/guard-off.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-transfer-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const head = { type: 'ekms-transfer', v: 1, request: { transfer: newId() }, authorities: [] } as unknown as TransferHead;
const keys = Array.from({ length: 7 }, (): TransferLine => ({ key: newId(), employee: newId(), problem: 'as a test has it' }));
/** Gives two keys a page, and signs by saying what it was asked to. */
const sender = () => {
  const asked: (string | undefined)[] = [];
  const of: files.Sender = {
    page: async (after) => {
      asked.push(after);
      const from = keys.findIndex(({ key }) => key === after) + 1;
      return keys.slice(from, from + 2);
    },
    close: async (said) => JSON.stringify(said),
    say: () => undefined,
  };
  return { of, asked };
};

test('cut at any byte, or with what a power cut leaves behind, a transfer goes on to the very file that it would have become', async () => {
  const path = join(folder, 'whole');
  await files.writeTransfer(path, head, sender().of);
  const whole = readFileSync(path);
  const lines = whole.toString().split('\n');
  const signed = `${lines.slice(0, -2).join('\n')}\n`;
  const { statement } = JSON.parse(lines.at(-2) ?? '') as { statement: string };
  expect(JSON.parse(statement)).toEqual({ digest: base64url(createHash('sha256').update(signed).digest()), keys: keys.length });
  const cut = join(folder, 'cut');
  let went = 0;
  for (let at = 0; at <= whole.length; at += 31)
    for (const left of ['', '\0'.repeat(40), `${'\0'.repeat(20)}\n${'\0'.repeat(9)}\n`, '{}\n']) {
      // Behind half a line anything makes it another one; the first line must be the very same.
      const isBehindHead = at > (lines[0]?.length ?? 0);
      if (left !== '' && !isBehindHead) continue;
      writeFileSync(cut, Buffer.concat([whole.subarray(0, at), Buffer.from(left)]));
      const { of, asked } = sender();
      const { keys: all, problems } = await files.writeTransfer(cut, head, of);
      if (at < whole.length) expect(readFileSync(cut).equals(whole)).toBe(true);
      expect([all, problems.length]).toEqual([keys.length, keys.length]);
      if ((asked[0] ?? undefined) !== undefined) went++;
    }
  expect(went).toBeGreaterThan(20);
});

test('a file of something else is left as it is, whether it has lines or none; without those guards it would be gone', async () => {
  const other = join(folder, 'other');
  const file = 'src/commands/transfer-file.ts';
  for (const [text, guard, instead] of [
    ['a letter\n', ' !== head) throw other(path)', ' === head) throw other(path)'],
    ['a picture', '!(await begins(file, head))', 'false'],
  ] as const) {
    writeFileSync(other, text);
    await expect(files.writeTransfer(other, head, sender().of)).rejects.toMatchObject({ code: 'transfer-file-other' });
    expect(readFileSync(other, 'utf8')).toBe(text);
    await guardOff<typeof files>({ file, guard, instead })
      .writeTransfer(other, head, sender().of)
      .catch(() => undefined);
    expect(readFileSync(other, 'utf8')).not.toBe(text);
  }
});
