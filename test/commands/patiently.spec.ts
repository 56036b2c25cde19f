import { expect, test } from '@jest/globals';
import { patiently } from '../../src/commands/patiently.js';
import { Fault, type FaultKind } from '../../src/foundation/index.js';

/** Fails so often, then gives how often it was asked. */
function failing(times: number, kind: FaultKind, code: string) {
  let asked = 0;
  return async () => {
    if (++asked <= times) throw new Fault(kind, code, `try ${asked}`);
    return asked;
  };
}

test('a work of a long run is tried again while the appliance is away', async () => {
  expect(await patiently(failing(2, 'unavailable', 'token-busy'), [1, 1, 1])).toBe(3);
});

test('whoever stays away is told of in the end', async () => {
  await expect(patiently(failing(9, 'unavailable', 'token-unavailable'), [1, 1, 1])).rejects.toMatchObject({ message: 'try 4' });
});

test.each([
  ['conflict', 'key-foreign'],
  ['unavailable', 'token-defect'],
] as const)('what is about the work itself is not repeated: %s %s', async (kind, code) => {
  await expect(patiently(failing(1, kind, code), [1])).rejects.toMatchObject({ message: 'try 1' });
});
