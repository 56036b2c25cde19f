import { createPublicKey, randomBytes, X509Certificate } from 'node:crypto';
import { expect, test } from '@jest/globals';
import * as deviceGuard from '../../src/access/device-guard.js';
import { type AuditLog, newId, type Storage, SystemClock, sha256 } from '../../src/foundation/index.js';
import { newUuid, spkiOf, TestAuthority } from '../client/test-authority.js';
import { guardOff } from '../support/guard-off.js';
import { newIdentity } from '../support/wire-device.js';

/** Refusals go nowhere here. */
const log = { storage: { write: async () => undefined } as unknown as Storage, audit: {} as AuditLog };
const request = { id: newId(), network: '127.0.0.1' };

/** A device on a connection that stays open, and what the guard says of it once its authority is retired. */
async function afterRetirement({ DeviceGuard }: typeof deviceGuard): Promise<unknown> {
  const authority = await TestAuthority.create();
  const [device, employee] = [newUuid(), newUuid()];
  const [pem = ''] = await authority.device(spkiOf(createPublicKey(newIdentity())), device, employee, randomBytes(32));
  const certificate = new X509Certificate(pem).raw;
  const found = {
    ...{ id: device, employee, deliveryKey: Buffer.alloc(0), platform: 'linux', app: newId() },
    ...({ appState: 'active', state: 'active', employeeState: 'active', frozen: null } as const),
  };
  let trusted = [Buffer.from(authority.devices.certificate)];
  const guard = new DeviceGuard(
    { find: async (digest) => (digest.equals(sha256(certificate)) ? found : undefined) },
    { trusted: () => trusted, look: async () => undefined },
    log,
    new SystemClock(),
    { require: () => undefined } as never,
  );
  expect(await guard.admit(certificate, request)).toMatchObject({ kind: 'device', id: device });
  trusted = [Buffer.from((await TestAuthority.create()).devices.certificate)];
  return guard.admit(certificate, request).then(
    () => 'in',
    ({ code }) => code,
  );
}

test('a connection outlives the authority that let it in: its device is refused all the same; guard off: in', async () => {
  expect(await afterRetirement(deviceGuard)).toBe('device-untrusted');
  const unguarded = guardOff<typeof deviceGuard>({
    file: 'src/access/device-guard.ts',
    guard: "return known && this.authorities.trusted('devices').includes(known.authority) ? known : undefined;",
    instead: 'return known;',
  });
  expect(await afterRetirement(unguarded)).toBe('in');
});
