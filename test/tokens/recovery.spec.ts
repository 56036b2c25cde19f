import { generateKeyPairSync, sign } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { newId } from '../../src/foundation/index.js';
import { recoveryBytes, requireApproved } from '../../src/tokens/recovery.js';

const now = new Date();
const pairs = ['Mona', 'Nils', 'Oscar'].map((name) => ({ name, ...generateKeyPairSync('ed25519') }));
const agents = {
  quorum: 2,
  agents: pairs.map(({ name, publicKey }) => ({ name, publicKey: publicKey.export({ format: 'der', type: 'spki' }) })),
};
const request = {
  v: 1 as const,
  ...{ case: newId(), employee: newId(), keys: [newId()], device: newId() },
  ...{ reason: 'legal' as const, reference: '', expires: now.getTime() + 1000 },
};
const by = (n: number, of = request) => ({
  agent: pairs[n]?.name ?? '',
  signature: sign(null, recoveryBytes(of), pairs[n]?.privateKey as never),
});

test('a quorum of different agents over this very request, in its time; nothing else', () => {
  const outcome = (approvals: ReturnType<typeof by>[], of = request, at = now) => {
    try {
      requireApproved(of, approvals, agents, at);
      return 'approved';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  expect(outcome([by(0), by(2)])).toBe('approved');
  expect(outcome([by(0)])).toBe('recovery-not-approved');
  expect(outcome([by(0), by(0)])).toBe('recovery-not-approved');
  expect(outcome([by(0), { ...by(0), agent: 'Nils' }])).toBe('recovery-not-approved');
  expect(outcome([by(0), by(1)], { ...request, device: newId() })).toBe('recovery-not-approved');
  expect(outcome([by(0), by(1)], request, new Date(request.expires))).toBe('recovery-expired');
  const long = { ...request, expires: now.getTime() + 31 * 86_400_000 };
  expect(outcome([by(0, long), by(1, long)], long)).toBe('recovery-not-approved');
  expect(() => requireApproved(request, [by(0), by(1)], undefined, now)).toThrow(expect.objectContaining({ code: 'no-recovery-agents' }));
});
