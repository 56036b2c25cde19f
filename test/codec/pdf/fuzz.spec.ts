import { expect, jest, test } from '@jest/globals';
import { pdfFuzz } from './fuzz-campaign.js';

jest.setTimeout(120_000);

test('2,000 bent documents: each is refused by name or rewritten, none takes long', async () => {
  const told = await pdfFuzz(Number(process.env['EKMS_SEED'] ?? 1), 2000);
  process.stdout.write(`pdf-fuzz: ${JSON.stringify(told.outcomes)}, slowest ${told.slowest.toFixed(0)} ms\n`);
  expect(told.defects).toEqual([]);
  expect(told.outcomes['done']).toBeGreaterThan(50);
  expect(told.grown).toBeLessThan(20);
  // A second on a quiet machine; this one may be busy.
  expect(told.slowest).toBeLessThan(5000);
});
