import { expect, jest, test } from '@jest/globals';
import { BOMBS } from './bombs.js';
import { tried } from './fuzz.js';

jest.setTimeout(60_000);

/** Where everything is found without the cross-references: mended, at its own size. */
const MENDED = [
  'sections in a circle',
  'a section that is its own former',
  'former section outside of the file',
  'object stream with First beyond its end',
  'object stream inside itself',
  'object stream that is the catalog',
  'cross-reference stream of an endless section',
  'cross-reference stream of negative sections',
  'cross-reference stream of fields without width',
  'cross-reference stream of wide fields',
];

test(`${Object.keys(BOMBS).length} bombs`, () => expect(Object.keys(BOMBS).length).toBeGreaterThanOrEqual(50 + MENDED.length));

test.each(Object.entries(BOMBS))('%s', (name, make) => {
  const bytes = make();
  const before = process.memoryUsage().rss;
  const { outcome, milliseconds } = tried(bytes);
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  const refused = /^(pdf-(not|damaged|truncated|excessive|unsupported)|asn1-malformed|cms-malformed|cms-not-enveloped|not-opened)$/;
  expect(outcome).toMatch(MENDED.includes(name) ? /^(done|pdf-damaged)$/ : refused);
  // 2 s and 150 MB on a quiet machine.
  expect(milliseconds).toBeLessThan(6000);
  expect(grown).toBeLessThan(250);
});
