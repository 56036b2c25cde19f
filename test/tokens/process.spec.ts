import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '../../src/foundation/index.js';
import { MemoryToken } from '../../src/tokens/process/memory-token.js';
import { TokenProcess } from '../../src/tokens/token-client.js';
import { tokenContract } from './process-contract.js';
import { ENTRY, initialisedHome, URLS } from './process-house.js';

tokenContract('a token process on SoftHSM', async () => {
  const home = initialisedHome();
  const token = new TokenProcess({ entry: ENTRY, settings: home.settings });
  await token.start();
  return {
    token,
    async close() {
      await token.stop();
      home.remove();
    },
  };
});

tokenContract('a token in memory', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-memory-token-'));
  const urls = { root: URLS, people: URLS, devices: URLS, infrastructure: URLS };
  const settings = { organisation: 'Test', domains: ['corp.example'], publicName: 'localhost', urls };
  const token = await MemoryToken.open(join(folder, 'journal'), settings, new SystemClock());
  return {
    token,
    async close() {
      await token.close();
      rmSync(folder, { recursive: true });
    },
  };
});
