import 'reflect-metadata';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, jest, test } from '@jest/globals';
import { AddressCertificates } from '../../src/certificates/address-certificates.js';
import { prepareEscrow } from '../../src/custody/escrow-journal.js';
import { takeFromEscrow } from '../../src/custody/from-escrow.js';
import { authorityUrls } from '../../src/house.js';
import { escrowLines } from '../support/escrow-lines.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);
const BY = { kind: 'system' } as const;
const DAY = 86_400_000;
const folder = mkdtempSync(join(tmpdir(), 'ekms-second-'));
const second = join(folder, 'second');
let house: HouseInProcess;
afterAll(async () => {
  await house?.close();
  rmSync(folder, { recursive: true });
});

test('a certificate on a key that somebody has waits for the second place like a first one, and comes back from there; with the guard off it does not wait', async () => {
  await prepareEscrow(second, tmpdir(), true);
  const settings = {
    ...{ keys: { bits: 2048, pool: { target: 1 } }, durability: 'two', escrow: { directory: second } },
    certificates: { personDays: 100, renewal: { key: 'same', overlapDays: 30 } },
  };
  house = await HouseInProcess.open({ settings });
  await keysOf(house, await enrolDevice(house, 'alice@corp.example'));
  const usable = () =>
    house.db.all<{ serial: string }>("SELECT serial FROM certificates WHERE profile = 'person' AND revoked_at IS NULL ORDER BY not_after");
  const renewed = (certificates: AddressCertificates) => certificates.renewDue(house.now().getTime() + 30 * DAY, BY, () => false);
  const away = `${second}.away`;

  house.pass(71 * DAY);
  renameSync(second, away);
  await expect(renewed(house.house.addressCertificates)).rejects.toMatchObject({ code: 'second-place-away' });
  expect(await usable()).toHaveLength(1);
  renameSync(away, second);
  await renewed(house.house.addressCertificates);
  const [, next] = await usable();
  expect((await escrowLines(second, house.token)).lines.filter(({ t }) => t === 'certificate')).toContainEqual(
    expect.objectContaining({ serial: next?.serial, address: 'alice@corp.example' }),
  );

  // The database of a backup that was made before.
  await house.db.write((unit) => unit.run('DELETE FROM certificates WHERE serial = ?', [next?.serial ?? '']));
  await takeFromEscrow(house.house, second);
  expect(await usable()).toContainEqual(next);

  house.pass(71 * DAY);
  const { storage, audit, employees, issuance, clock, authorities, configuration } = house.house;
  const Unguarded = guardOff<{ AddressCertificates: typeof AddressCertificates }>({
    file: 'src/certificates/address-certificates.ts',
    guard: 'await this.second.certified(',
    instead: 'void (',
  }).AddressCertificates;
  const days = { personDays: 100, urls: authorityUrls(configuration).people };
  renameSync(second, away);
  await renewed(new Unguarded(storage, audit, house.token, employees, issuance, clock, days, authorities, house.house.second));
  renameSync(away, second);
  expect((await usable()).length).toBeGreaterThan(2);
});
