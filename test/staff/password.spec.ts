import { expect, test } from '@jest/globals';
import { MemoryDirectory } from '../../src/directory/memory-directory.js';
import { Fault, parseAddress, SystemClock } from '../../src/foundation/index.js';
import { Attempts } from '../../src/staff/attempts.js';
import { DirectoryPassword } from '../../src/staff/password.js';
import { guardOff } from '../support/guard-off.js';

const request = { id: 'r', network: '127.0.0.1' };

/** How the tries end: five wrong ones by one address, then the right password by another of the same person, and that of somebody else. */
async function tried(Made: typeof DirectoryPassword): Promise<string[]> {
  const directory = new MemoryDirectory();
  for (const name of ['anna', 'bob']) {
    directory.entries.set(name, { id: name, addresses: [`${name}@corp.example`, `${name}.alias@corp.example`], active: true });
    directory.passwords.set(name, `${name}-secret`);
  }
  const sessions = { begin: (_method: string, _request: object, prove: () => Promise<object>) => prove().then(() => 'in') };
  const budgets = { ofSignIn: () => ({}), take: async () => {} };
  const door = new Made(directory, sessions as never, budgets as never, new Attempts(new SystemClock(), 5, 900_000));
  const by = (address: string, password: string) =>
    door.signIn(parseAddress(`${address}@corp.example`), password, request).catch(({ code }: Fault) => code);
  for (let n = 0; n < 5; n++) expect(await by('anna', 'wrong')).toBe('sign-in-refused');
  return [await by('anna', 'anna-secret'), await by('anna.alias', 'anna-secret'), await by('bob.alias', 'bob-secret')];
}

test('tries by several addresses of one person count together, and do not tell that they are one; guard off: each address has its own', async () => {
  expect(await tried(DirectoryPassword)).toEqual(['too-many-attempts', 'sign-in-refused', 'in']);
  const guard = { file: 'src/staff/password.ts', guard: ', (id) => this.#mayTry(id)', instead: '' };
  expect(await tried(guardOff<{ DirectoryPassword: typeof DirectoryPassword }>(guard).DirectoryPassword)).toEqual([
    'too-many-attempts',
    'in',
    'in',
  ]);
});
