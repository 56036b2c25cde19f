import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { askAppliance, askRunning, controlSocket } from '../../src/commands/ask-appliance.js';

let home: string;
let close: () => Promise<void> = async () => undefined;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'ekms-ask-'));
  mkdirSync(dirname(controlSocket(home)));
});
afterEach(async () => {
  await close();
  close = async () => undefined;
  rmSync(home, { recursive: true });
});

/** An appliance that does this with whoever asks. */
async function appliance(does: (asking: Socket) => void): Promise<void> {
  const server = createServer((asking) => void asking.once('data', () => does(asking)));
  await new Promise<void>((resolve) => server.listen(controlSocket(home), resolve));
  close = () => new Promise((resolve) => server.close(() => resolve()));
}

test('none is up: whoever asks may do it alone, but no act of a long run', async () => {
  expect(await askAppliance(home, 'health', {})).toBeUndefined();
  await expect(askRunning(home, 'health', {})).rejects.toMatchObject({ kind: 'unavailable', code: 'not-running' });
});

test.each([
  ['before a word', (asking: Socket) => asking.destroy()],
  ['within its answer', (asking: Socket) => asking.write('HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{"val', () => asking.destroy())],
])('one that is killed %s leaves open whether the act was done, and a long run asks again', async (_, does) => {
  await appliance(does);
  await expect(askAppliance(home, 'health', {})).rejects.toMatchObject({ kind: 'unavailable', code: 'answer-lost' });
});
