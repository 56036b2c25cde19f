import 'reflect-metadata';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type * as serving from '../../src/commands/serve.js';
import { serve } from '../../src/commands/serve.js';
import { loadConfiguration } from '../../src/configuration/index.js';
import { SystemClock } from '../../src/foundation/index.js';
import { authorityUrls } from '../../src/house.js';
import { MemoryTransport } from '../../src/mail/index.js';
import { openStorage } from '../../src/storage/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { guardOff } from '../support/guard-off.js';
import { Isolated } from '../support/isolated.js';

jest.setTimeout(60_000);

let home: string;
let token: MemoryToken;
beforeEach(async () => {
  home = mkdtempSync(join(tmpdir(), 'ekms-serve-'));
  const listen = Object.fromEntries(['client', 'administration', 'staff', 'public', 'operation'].map((name) => [name, '127.0.0.1:0']));
  const settings = { listen, domains: ['corp.example'], keys: { bits: 2048, pool: { target: 0 } } };
  writeFileSync(join(home, 'ekms.yaml'), JSON.stringify(settings));
  writeFileSync(join(home, 'ca.pem'), ''); // that it is there says that this is an appliance
  const { domains, ...configuration } = loadConfiguration(home);
  const authorities = { organisation: 'Test', domains, publicName: 'localhost', urls: authorityUrls({ ...configuration, domains }) };
  token = await MemoryToken.open(join(home, 'journal'), authorities, new SystemClock());
});
afterEach(async () => {
  await token.close();
  rmSync(home, { recursive: true });
});

/** Stops it in the very moment of the word; whether anybody heard that. */
async function stoppedAtReady(run: typeof serve): Promise<boolean> {
  let heard = false;
  const parts = { token, clock: new SystemClock(), surroundings: new Isolated(), transport: new MemoryTransport() };
  const served = run(
    home,
    { root: resolve('.') },
    (line) => {
      if (!line.startsWith('ready')) return;
      heard = process.emit('SIGTERM');
      setTimeout(() => heard || process.emit('SIGTERM'), 100); // so that this test ends
    },
    parts,
  );
  await served;
  return heard;
}

async function lastAct(): Promise<string | undefined> {
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const row = await storage.one<{ action: string }>('SELECT action FROM audit_entries ORDER BY idx DESC LIMIT 1');
  await storage.close();
  return row?.action;
}

test('who stops the appliance at the word ready ends it in order', async () => {
  expect(await stoppedAtReady(serve)).toBe(true);
  expect(await lastAct()).toBe('appliance.stop');
});

test('were the signals listened for after the word, the first would kill it', async () => {
  const guard = 'process.once(signal, resolve)';
  const late = guardOff<typeof serving>({ file: 'src/commands/serve.ts', guard, instead: `setImmediate(() => ${guard})` });
  expect(await stoppedAtReady(late.serve)).toBe(false);
});
