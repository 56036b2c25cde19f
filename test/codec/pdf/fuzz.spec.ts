import { expect, jest, test } from '@jest/globals';
import { pdfFuzz } from './fuzz-campaign.js';

jest.setTimeout(300_000);

test('20,000 bent documents: each is refused by name or rewritten, none takes long', async () => {
  const told = await pdfFuzz(Number(process.env['EKMS_SEED'] ?? 1), 20_000);
  process.stdout.write(`pdf-fuzz: ${JSON.stringify(told.outcomes)}, slowest ${told.slowest.toFixed(0)} ms\n`);
  expect(told.defects).toEqual([]);
  expect(told.outcomes['done']).toBeGreaterThan(500);
  expect(told.grown).toBeLessThan(20);
  // Of CPU: what else this machine does hardly counts.
  expect(told.slowest).toBeLessThan(1000);
});
