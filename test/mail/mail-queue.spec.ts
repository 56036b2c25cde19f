import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { MailTransport, MemoryTransport, SmtpTransport } from '../../src/mail/index.js';
import { eachDatabase, type TestDatabase } from '../support/database.js';
import { type MailAuthority, mailAuthority } from './mail-authority.js';
import { FROM, mailHouse } from './mail-house.js';
import { SmtpSink, type Turn } from './smtp-sink.js';

const alice = 'alice@corp.example';
let authority: MailAuthority;
beforeAll(() => {
  authority = mailAuthority(FROM);
});
afterAll(() => authority.remove());

async function until(holds: () => unknown, within = 2_000): Promise<number> {
  const began = performance.now();
  while (!(await holds())) {
    if (performance.now() - began > within) throw new Error('it did not come to pass');
    await pause(2);
  }
  return performance.now() - began;
}

eachDatabase((open, kind) => {
  describe('the mail queue', () => {
    let database: TestDatabase;
    let transport: MemoryTransport;
    let house: ReturnType<typeof mailHouse>;
    const row = async (id: string) =>
      (await database.storage.one<{ state: string; error: string | null; sealed: Buffer; attempts: number }>(
        'SELECT state, error, sealed, attempts FROM mails WHERE id = ?',
        [id],
      )) ?? { state: 'none', error: null, sealed: Buffer.alloc(0), attempts: 0 };

    beforeEach(async () => {
      database = await open();
      transport = new MemoryTransport();
      house = mailHouse(database.storage, transport, authority);
    });
    afterEach(() => house.queue.stop());

    test('sends a fresh mail at once, and writes one entry about it', async () => {
      house.queue.start();
      await pause(20);
      const id = await house.send(alice);
      expect(await until(() => transport.accepted.length)).toBeLessThan(50);
      await until(() => house.audit.events.length);
      expect(transport.accepted).toMatchObject([{ from: FROM, to: alice }]);
      expect(await house.queue.state(database.storage, id)).toBe('sent');
      expect(house.audit.events).toEqual([
        {
          action: 'mail.send',
          outcome: 'done',
          actor: { kind: 'system' },
          subject: id,
          facts: { kind: 'challenge', attempts: 1 },
          personal: { recipient: alice },
        },
      ]);
    });

    test('never sends what its unit did not commit', async () => {
      house.queue.start();
      const prepared = await house.queue.prepare(house.mail(alice));
      const unit = database.storage.write(async (open) => {
        await house.queue.enqueue(open, prepared);
        throw new Error('no');
      });
      await expect(unit).rejects.toThrow('no');
      await house.send('bob@corp.example');
      await until(() => transport.accepted.length);
      expect(transport.accepted).toMatchObject([{ to: 'bob@corp.example' }]);
      expect(await house.queue.state(database.storage, prepared.id)).toBeUndefined();
    });

    test('keeps the bytes sealed while they wait, and not at all once the mail is sent or failed', async () => {
      const sent = await house.send(alice);
      transport.refused.add('bob@corp.example');
      const failed = await house.send('bob@corp.example');
      const { sealed } = await row(sent);
      expect(sealed.length).toBeGreaterThan(1000);
      for (const text of ['2R_-xhm3', 'Somebody', 'Subject']) expect(sealed.includes(text)).toBe(false);
      await house.queue.flush();
      expect(await row(sent)).toEqual({ state: 'sent', error: null, sealed: Buffer.alloc(0), attempts: 1 });
      expect(await row(failed)).toEqual({ state: 'failed', error: 'smtp-refused', sealed: Buffer.alloc(0), attempts: 1 });
      expect(house.audit.events.map(({ outcome, reason }) => [outcome, reason]).toSorted()).toEqual([
        ['done', undefined],
        ['failed', 'smtp-refused'],
      ]);
    });

    test('tries again later and later while the mail server is down, and says so in one entry', async () => {
      transport.broken = true;
      const id = await house.send(alice);
      for (let attempt = 1; attempt <= 4; attempt++) {
        await house.queue.flush();
        await house.queue.flush();
        expect(await row(id)).toMatchObject({ state: 'queued', error: 'smtp-unreachable', attempts: attempt });
        house.clock.ahead += 1_000 * 2 ** (attempt - 1) - 200;
        await house.queue.flush(); // not yet due
        expect((await row(id)).attempts).toBe(attempt);
        house.clock.ahead += 200;
      }
      transport.broken = false;
      await house.queue.flush();
      expect(house.audit.events).toMatchObject([{ outcome: 'done', facts: { attempts: 5 } }]);
      expect(transport.accepted).toHaveLength(1);
    });

    test('works again by itself after the server comes back, without a restart', async () => {
      transport.broken = true;
      house.queue.start();
      const id = await house.send(alice);
      await until(async () => (await row(id)).error);
      transport.broken = false;
      await until(() => transport.accepted.length, 4_000);
    });

    test('reports a mail failed that found no server until it expired, and never sends it afterwards', async () => {
      transport.broken = true;
      const id = await house.send(alice, { expires: house.clock.now().getTime() + 5_000 });
      for (let turn = 0; turn < 4; turn++) {
        await house.queue.flush();
        house.clock.ahead += 1_200;
      }
      transport.broken = false;
      await house.settle();
      await house.queue.flush();
      expect(await row(id)).toMatchObject({ state: 'failed', error: 'smtp-unreachable', attempts: 3 }); // a fourth would be too late
      expect(house.audit.events).toMatchObject([{ outcome: 'failed', reason: 'smtp-unreachable' }]);
      expect(transport.accepted).toEqual([]);
    });

    test('does not send a mail that expired while nothing ran, or while it was unsealed', async () => {
      const [one, two] = [await house.send(alice, { expires: house.clock.now().getTime() + 5_000 }), await house.send(alice)];
      house.clock.ahead += 6_000;
      house.sealer.onOpen = () => {
        house.clock.ahead += 600_000;
      };
      await house.queue.flush();
      expect([await row(one), await row(two)]).toMatchObject([
        { state: 'failed', error: 'expired', attempts: 0 },
        { state: 'failed', error: 'expired', attempts: 1 },
      ]);
      expect(transport.accepted).toEqual([]);
    });

    test('does not send what it held too long: another node may have reported it by then', async () => {
      const id = await house.send(alice);
      house.sealer.onOpen = () => {
        house.clock.ahead += 50_000;
      };
      await house.queue.flush();
      expect(transport.accepted).toEqual([]);
      expect(await row(id)).toMatchObject({ state: 'queued', error: 'claim-outlived' });
    });

    test('waits for a token that is away; bytes that the token did not seal are never sent', async () => {
      house.sealer.away = true;
      const [one, two] = [await house.send(alice), await house.send('bob@corp.example')];
      await house.queue.flush();
      expect([await row(one), await row(two)]).toMatchObject([{ error: 'token-unavailable' }, { error: 'token-unavailable' }]);
      house.sealer.away = false;
      // A body copied from one row to another opens under the id of its own mail only.
      await database.tamper(`UPDATE mails SET sealed = (SELECT sealed FROM mails WHERE id = '${one}') WHERE id = '${two}'`);
      await house.settle();
      expect(await row(two)).toMatchObject({ state: 'failed', error: 'token-refused' });
      expect(transport.accepted).toMatchObject([{ to: alice }]);
    });

    test('a mail is sent once and known as sent though the log was away when it went out', async () => {
      house.audit.away = true;
      const id = await house.send(alice);
      house.queue.start();
      await until(() => transport.accepted.length);
      await pause(150);
      house.clock.ahead += 120_000; // the claim is long over, and this very process still holds the answer
      await pause(300); // it wrote in vain after 0, 100 and 300 ms, and will again after 700
      house.audit.away = false;
      await house.send('bob@corp.example'); // makes the queue look at once
      await until(async () => (await row(id)).state !== 'queued', 5_000);
      expect(await row(id)).toMatchObject({ state: 'sent', error: null });
      expect(transport.accepted.filter(({ to }) => to === alice)).toHaveLength(1);
    });

    test('several nodes over one database send each mail once', async () => {
      const nodes = [house, mailHouse(database.storage, transport, authority), mailHouse(database.storage, transport, authority)];
      const people = Array.from({ length: 120 }, (_, n) => `p${n}@corp.example`);
      const prepared = await Promise.all(people.map((to) => house.queue.prepare(house.mail(to))));
      await database.storage.write(async (unit) => {
        for (const mail of prepared) await house.queue.enqueue(unit, mail);
      });
      await Promise.all(nodes.map((node) => node.queue.flush()));
      expect(transport.accepted.map(({ to }) => to).toSorted()).toEqual(people.toSorted());
      expect(nodes.flatMap((node) => node.audit.events)).toHaveLength(120);
    });

    test('mails that come while every place is taken go out as soon as one is free', async () => {
      const held: (() => void)[] = [];
      class HeldTransport extends MailTransport {
        override deliver(): Promise<void> {
          return new Promise((resolve) => held.push(resolve));
        }
      }
      const full = mailHouse(database.storage, new HeldTransport(), authority);
      full.queue.start();
      for (let n = 0; n < 40; n++) await full.send(`p${n}@corp.example`);
      await until(() => held.length === 16);
      await pause(30);
      expect(held).toHaveLength(16);
      for (let n = 0; n < 40; n++) {
        await until(() => held[n], 500); // well before the next regular look
        held[n]?.();
      }
      await until(() => full.audit.events.length === 40);
      await full.queue.stop();
    });

    test('stopping waits for the delivery under way and takes no other', async () => {
      let open: () => void = () => undefined;
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      let begun = 0;
      class SlowTransport extends MailTransport {
        override async deliver(): Promise<void> {
          begun++;
          await gate;
        }
      }
      const slow = mailHouse(database.storage, new SlowTransport(), authority);
      slow.queue.start();
      const id = await slow.send(alice);
      await until(() => begun);
      const stopped = slow.queue.stop();
      const late = await slow.send('bob@corp.example');
      open();
      await stopped;
      expect([(await row(id)).state, (await row(late)).state, begun]).toEqual(['sent', 'queued', 1]);
    });

    test('what a node was sending when it died is reported failed by another one, once, and never sent again', async () => {
      class DeadTransport extends MailTransport {
        override deliver(): Promise<void> {
          return new Promise(() => undefined);
        }
      }
      const dead = mailHouse(database.storage, new DeadTransport(), authority);
      const id = await dead.send(alice);
      void dead.queue.flush();
      await until(async () => (await row(id)).attempts);
      house.clock.ahead += 70_000;
      await house.queue.flush();
      expect((await row(id)).state).toBe('queued'); // its claim still stands: it may well be alive
      house.clock.ahead += 15_000;
      await Promise.all([house.queue.flush(), house.queue.flush()]);
      expect(await row(id)).toMatchObject({ state: 'failed', error: 'outcome-unknown' });
      expect(house.audit.events).toMatchObject([{ outcome: 'failed', reason: 'outcome-unknown', subject: id }]);
      await house.settle();
      expect(transport.accepted).toEqual([]);
    });
  });

  const many = kind === 'sqlite' ? 500 : 120;
  test(`${many} mails to a server that refuses, drops and loses answers: each is delivered once or reported failed`, async () => {
    const { storage } = await open();
    const sink = new SmtpSink({ ...authority.server, authOptional: true });
    const port = await sink.listen();
    const house = mailHouse(storage, new SmtpTransport({ host: 'localhost', port, tls: 'starttls', ca: authority.rootPem }), authority);
    const scripts: Turn[][] = [
      [],
      [{ rcpt: 450 }],
      [{ data: 451 }, 'drop-early', { rcpt: 421 }],
      ['drop-early', 'drop-early'],
      [{ rcpt: 550 }],
      [{ data: 554 }],
      ['lost'],
      [{ data: 452 }, 'lost'],
    ];
    const scriptOf = (n: number): Turn[] => scripts[n % scripts.length] ?? [];
    const left = new Map(Array.from({ length: many }, (_, n) => [`p${n}@corp.example`, [...scriptOf(n)]]));
    // A turn is over once it was acted out: those of the recipient at RCPT, the others after the data.
    sink.turn = (to, moment) => {
      const [turn = 'accept'] = left.get(to) ?? [];
      const atRecipient = turn === 'drop-early' || (typeof turn === 'object' && 'rcpt' in turn);
      if (atRecipient === (moment === 'rcpt')) left.get(to)?.shift();
      else return 'accept';
      return turn;
    };
    try {
      const ids = new Map<string, string>();
      for (const to of left.keys()) ids.set(await house.send(to, { expires: Date.now() + 86_400_000 }), to);
      await house.settle();
      const expected = (n: number): string => {
        const script = scriptOf(n);
        if (script.includes('lost')) return 'failed outcome-unknown 1';
        return script.some((turn) => typeof turn === 'object' && ('rcpt' in turn ? turn.rcpt : turn.data) >= 500)
          ? 'failed smtp-refused 0'
          : 'done - 1';
      };
      const seen = house.audit.events.map(({ subject, outcome, reason }) => {
        const to = ids.get(subject ?? '') ?? '';
        return [to, `${outcome} ${reason ?? '-'} ${sink.accepted.filter((mail) => mail.to === to).length}`];
      });
      expect(seen).toHaveLength(many);
      expect(new Map(seen as [string, string][])).toEqual(new Map([...left.keys()].map((to, n) => [to, expected(n)])));
      expect(sink.inClear).toEqual([]);
    } finally {
      await sink.close();
    }
  }, 60_000);
});

describe('SIGKILL while a mail is on its way', () => {
  eachDatabase((open, kind) => {
    const onSqlite = kind === 'sqlite' ? test : test.skip; // the child process speaks SQLite
    for (const moment of ['before', 'after'] as const)
      onSqlite(
        `${moment} the server has all of it: reported failed, not sent again`,
        async () => {
          const database = await open();
          const sink = new SmtpSink({ ...authority.server, authOptional: true });
          const port = await sink.listen();
          const house = mailHouse(
            database.storage,
            new SmtpTransport({ host: 'localhost', port, tls: 'starttls', ca: authority.rootPem }),
            authority,
          );
          const id = await house.send(alice);
          let child: ChildProcess | undefined;
          sink.turn = (_to, now) => {
            if (now !== (moment === 'before' ? 'rcpt' : 'data')) return 'accept';
            child?.kill('SIGKILL');
            return moment === 'before' ? 'drop-early' : 'lost';
          };
          const words = [join(__dirname, 'killed-sender.mjs'), database.settings.home, String(port), authority.root];
          child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
          const said: Buffer[] = [];
          child.stderr?.on('data', (chunk: Buffer) => said.push(chunk));
          const [code, signal] = await once(child, 'exit');
          expect([code, signal, Buffer.concat(said).toString()]).toEqual([null, 'SIGKILL', '']);
          sink.turn = () => 'accept';
          await house.settle();
          expect(house.audit.events).toMatchObject([{ outcome: 'failed', reason: 'outcome-unknown', subject: id }]);
          expect(sink.accepted).toHaveLength(moment === 'before' ? 0 : 1);
          expect(readFileSync(join(database.settings.home, 'ekms.db-wal')).includes('2R_-xhm3')).toBe(false);
          await sink.close();
        },
        30_000,
      );
  });
});
