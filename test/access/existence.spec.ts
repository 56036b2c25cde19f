import { expect, jest, test } from '@jest/globals';
import { compareAnswers, welch } from './existence.js';

jest.setTimeout(90_000);

test('an answer does not say whether the person exists: no byte differs, and no time that a short run would show', async () => {
  const found = await compareAnswers(1, 150);
  process.stderr.write(`known and unknown addresses: ${JSON.stringify(found)}\n`);
  expect(found).toMatchObject({ count: 150, different: 0 });
  // Wide: a busy machine makes noise. `ekms campaign existence --count 5000` judges by 4.5.
  expect(Math.abs(found.tCropped)).toBeLessThan(10);
});

test('Welch’s t, held against a worked example', () => {
  // Equal means: 0. Means 3 and 4 with variance 1 each, three of each: -1 / sqrt(2/3).
  expect(welch([1, 2, 3], [1, 2, 3])).toBe(0);
  expect(welch([2, 3, 4], [3, 4, 5])).toBeCloseTo(-1 / Math.sqrt(2 / 3), 12);
});
