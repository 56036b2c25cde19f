import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { ACTS } from '../../src/commands/acts.js';

test('of each act that takes others, the page says in words what they agree to', () => {
  const page = readFileSync(join(__dirname, '../../web/administration/acts.js'), 'utf8');
  const dangerous = Object.entries(ACTS)
    .filter(([, act]) => 'danger' in act && act.danger !== undefined)
    .map(([name]) => name);
  expect(dangerous.length).toBeGreaterThan(20);
  expect([...page.matchAll(/^ {2}'([a-z.-]+)': '.+',$/gm)].map(([, name]) => name).sort()).toEqual(dangerous.sort());
});
