import { describe, expect, test } from '@jest/globals';
import { Origins, RowSeal, Sessions } from '../../src/access/index.js';
import { DurableAuditLog } from '../../src/audit/index.js';
import { Clock, type Storage } from '../../src/foundation/index.js';
import { eachDatabase } from '../support/database.js';

class TestClock extends Clock {
  time = Date.parse('2026-11-25T12:00:00.000Z');
  override now(): Date {
    return new Date(this.time);
  }
}

const MINUTE = 60_000;
const desk = { id: 'r1', network: '10.2.0.7' };
const lives = { administration: { idle: 15 * MINUTE, absolute: 480 * MINUTE }, staff: { idle: 60 * MINUTE, absolute: 720 * MINUTE } };

function open(storage: Storage) {
  const clock = new TestClock();
  const sessions = new Sessions(storage, new DurableAuditLog(clock), new RowSeal(Buffer.alloc(32, 7)), clock, lives);
  const begin = async (audience: 'administration' | 'staff' = 'administration') => {
    const how = { audience, subject: 'anna', method: 'passkey' };
    const { session, cookie } = await storage.write((unit) => sessions.begin(unit, how, { kind: 'administrator', id: 'anna' }, desk));
    return { session, set: cookie, cookie: cookie.split(';')[0] ?? '' };
  };
  return { clock, sessions, begin };
}

const refused = (code: string) => expect.objectContaining({ code });

describe('sessions', () => {
  eachDatabase((database) => {
    test('a cookie is admitted at its own listener, from its own address, until it is idle or its time is over', async () => {
      const { storage } = await database();
      const { clock, sessions, begin } = open(storage);
      const { session, set, cookie } = await begin();
      expect(set).toMatch(/^__Host-ekms-administration=[\w-]{43}; Path=\/; Secure; HttpOnly; SameSite=Strict$/);
      expect(await sessions.admit('administration', `other=1; ${cookie}`, desk)).toEqual(session);
      for (let minute = 0; minute < 480; minute += 10, clock.time += 10 * MINUTE) await sessions.admit('administration', cookie, desk);
      // Used ten minutes ago: it is the eight hours that are over.
      await expect(sessions.admit('administration', cookie, desk)).rejects.toEqual(refused('session-ended'));
      const idle = await begin();
      clock.time += 15 * MINUTE;
      await expect(sessions.admit('administration', idle.cookie, desk)).rejects.toEqual(refused('session-ended'));
      expect(await sessions.list('administration')).toEqual([]);
    });

    test('a cookie that comes from another address is refused, and its session is over', async () => {
      const { storage } = await database();
      const { sessions, begin } = open(storage);
      const { cookie } = await begin();
      const thief = { id: 'r2', network: '10.2.0.8' };
      await expect(sessions.admit('administration', cookie, thief)).rejects.toEqual(refused('session-elsewhere'));
      await expect(sessions.admit('administration', cookie, desk)).rejects.toEqual(refused('session-ended'));
    });

    test('a cookie of the staff listener opens nothing at the administration listener, under either name', async () => {
      const { storage } = await database();
      const { sessions, begin } = open(storage);
      const { cookie } = await begin('staff');
      await expect(sessions.admit('administration', cookie, desk)).rejects.toEqual(refused('session-missing'));
      const renamed = cookie.replace('staff', 'administration');
      await expect(sessions.admit('administration', renamed, desk)).rejects.toEqual(refused('session-ended'));
      await expect(sessions.admit('staff', `${cookie}; ${cookie}`, desk)).rejects.toEqual(refused('session-missing'));
    });

    test('the database holds nothing that could be sent as a cookie, and a row that was written beside the appliance is no session', async () => {
      const { storage } = await database();
      const { sessions, begin } = open(storage);
      const { cookie } = await begin();
      const token = cookie.split('=')[1] ?? '';
      const rows = JSON.stringify(await storage.all('SELECT * FROM sessions'), (_, value) =>
        value?.type === 'Buffer' ? Buffer.from(value.data).toString('base64url') : value,
      );
      expect(rows).not.toContain(token);
      await storage.write((unit) => unit.run("UPDATE sessions SET subject = 'mallory'"));
      await expect(sessions.admit('administration', cookie, desk)).rejects.toEqual(refused('session-ended'));
    });

    test('an ended session is over at once; each has its entry', async () => {
      const { storage } = await database();
      const { sessions, begin } = open(storage);
      const [one, two] = [await begin(), await begin()];
      await storage.write((unit) => sessions.end(unit, one.session.id, { kind: 'administrator', id: 'anna' }));
      await expect(sessions.admit('administration', one.cookie, desk)).rejects.toEqual(refused('session-ended'));
      await sessions.admit('administration', two.cookie, desk);
      await storage.write((unit) => sessions.endAllOf(unit, 'administration', 'anna', { kind: 'system' }));
      await expect(sessions.admit('administration', two.cookie, desk)).rejects.toEqual(refused('session-ended'));
      const entries = await storage.all<{ action: string }>('SELECT action FROM audit_entries ORDER BY idx');
      expect(entries.map(({ action }) => action)).toEqual(['session.begin', 'session.begin', 'session.end', 'session.end']);
    });
  });
});

describe('where a request comes from', () => {
  const origins = new Origins('keys.corp.example', { administration: 8444, staff: 8445 });
  const own = 'https://keys.corp.example:8444';
  const tries: [string, Record<string, string>, boolean][] = [
    ['POST', { origin: own, 'sec-fetch-site': 'same-origin' }, true],
    ['POST', { origin: own }, true],
    ['POST', { 'sec-fetch-site': 'same-origin' }, true],
    ['POST', {}, false],
    ['POST', { origin: 'null' }, false],
    ['POST', { origin: 'https://keys.corp.example:8445', 'sec-fetch-site': 'same-site' }, false],
    ['POST', { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }, false],
    ['POST', { origin: own, 'sec-fetch-site': 'same-site' }, false],
    ['POST', { 'sec-fetch-site': 'none' }, false],
    ['DELETE', {}, false],
    ['GET', {}, true],
    ['GET', { 'sec-fetch-site': 'none' }, true],
    ['GET', { 'sec-fetch-site': 'same-origin' }, true],
    ['GET', { 'sec-fetch-site': 'cross-site' }, false],
    ['GET', { 'sec-fetch-site': 'same-site' }, false],
    ['GET', { origin: 'https://evil.example' }, false],
  ];
  test.each(tries)('%s with %j: %s', (method, headers, fits) => {
    const ask = () => origins.requireOwn('administration', method, headers);
    if (fits) ask();
    else expect(ask).toThrow(refused('cross-site') as unknown as Error);
  });
});
