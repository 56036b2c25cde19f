import 'reflect-metadata';
import { expect, test } from '@jest/globals';
import type { House } from '../src/house.js';
import { inTurn, type Step, upkeepOf } from '../src/upkeep.js';
import { guardOff } from './support/guard-off.js';

/** Fails at whatever is asked of it, and writes down what that was. */
function failing(asked: string[]): House {
  const deaf = (room: string) =>
    new Proxy(
      {},
      {
        get: (_, verb: string) => async () => {
          asked.push(`${room}.${verb}`);
          throw new Error(`no ${room} now`);
        },
      },
    );
  const given = { clock: { now: () => new Date() }, configuration: { keys: { keepDeliveriesDays: 1 } } };
  return new Proxy(given, { get: (_, room: string) => Reflect.get(given, room) ?? deaf(room) }) as unknown as House; // whatever upkeep asks of a house
}

const EVERY_HOUR = [
  'tokenKeys.resume',
  'authorityRetirement.resume',
  'auditKeyRotation.resume',
  'tls',
  'revocations.publishDue',
  'vault.forgetDeliveries',
  'storage.write',
  'sealedEntries.unsealDue',
  'lives.destroyDue',
  'pruning.resume',
  'backups.createDue',
  'headArchive.sendDue',
  'timeStamps.stampDue',
  'staff.forgetExpired',
];

async function hour(run: typeof inTurn): Promise<{ asked: string[]; told: string[] }> {
  const asked: string[] = [];
  const told: string[] = [];
  const tls: Step = [
    'TLS certificate',
    async () => {
      asked.push('tls');
      throw new Error('no authority now');
    },
  ];
  await run(upkeepOf(failing(asked), tls), (error, part) => told.push(`${part}: ${(error as Error).message}`)).catch(() => undefined);
  return { asked, told };
}

test('of the hourly upkeep each step is tried, though all before it failed, and each failure is told with its name', async () => {
  const { asked, told } = await hour(inTurn);
  expect(asked).toEqual(EVERY_HOUR);
  expect(told).toHaveLength(EVERY_HOUR.length);
  expect(told).toEqual(
    expect.arrayContaining(['TLS certificate: no authority now', 'backup: no backups now', 'retention of keys: no lives now']),
  );
});

test('with one end for all of them, the first failure is the last step, and nobody hears of it', async () => {
  const guard = 'defect(error, part);';
  const unguarded = guardOff<{ inTurn: typeof inTurn }>({ file: 'src/upkeep.ts', guard, instead: 'throw error;' });
  expect(await hour(unguarded.inTurn)).toEqual({ asked: EVERY_HOUR.slice(0, 1), told: [] });
});
