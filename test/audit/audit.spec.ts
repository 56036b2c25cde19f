import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { AuditReader, checkLog, DurableAuditLog } from '../../src/audit/index.js';
import { LogTree } from '../../src/audit/log-tree.js';
import { type AuditEvent, Clock, canonicalJson, type Json, type Storage } from '../../src/foundation/index.js';
import { eachDatabase, liftKept } from '../support/database.js';

class TestClock extends Clock {
  time = Date.parse('2026-11-23T12:00:00.000Z');
  override now(): Date {
    return new Date(this.time);
  }
}

const started: AuditEvent = { action: 'appliance.start', outcome: 'done', actor: { kind: 'system' } };
const began = { action: 'binding.begin', outcome: 'done', actor: { kind: 'system' } } as const;
const delivered = (key: string): AuditEvent => ({
  action: 'key.deliver',
  outcome: 'done',
  actor: { kind: 'device', id: 'd1' },
  device: 'd1',
  employee: 'anna',
  key,
});

async function houseOf(storage: Storage, keys: string[] = []) {
  const clock = new TestClock();
  const log = new DurableAuditLog(clock);
  await storage.write(async (unit) => {
    await unit.run("INSERT INTO employees (id, state, created) VALUES ('anna', 'active', 1)");
    for (const [n, key] of keys.entries())
      await unit.run(
        `INSERT INTO keys (id, version, employee, suite, bits, state, mode, kek, public_key_digest, public_key, wrapped, mac, created)
         VALUES (?, 1, 'anna', 'rsa', 3072, 'deactivated', 'deliver', 'k', ?, ?, ?, ?, 1)`,
        [key, Buffer.from([n]), Buffer.alloc(1), Buffer.alloc(1), Buffer.alloc(1)],
      );
  });
  return { clock, log, append: (event: AuditEvent) => storage.write((unit) => log.append(unit, event)) };
}

describe('canonical JSON', () => {
  /** RFC 8785 §3.2.3 by the book: names sorted by UTF-16 code units at every depth. */
  const byTheBook = (value: Json): string =>
    value === null || typeof value !== 'object'
      ? JSON.stringify(value)
      : Array.isArray(value)
        ? `[${value.map(byTheBook).join(',')}]`
        : `{${Object.entries(value)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([name, member]) => `${JSON.stringify(name)}:${byTheBook(member)}`)
            .join(',')}}`;

  test('is one text, in whatever order its members were set, also of names that JavaScript puts first', () => {
    const { json } = fc.letrec<{ json: Json }>((tie) => ({
      json: fc.oneof(
        { maxDepth: 4 },
        ...[fc.string({ unit: 'binary' }), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean(), fc.constant(null)],
        fc.array(tie('json'), { maxLength: 4 }),
        fc.dictionary(fc.oneof(fc.constantFrom('10', '9', '1a', 'a', 'B', '\u20ac', '\ud83d\ude00', '\ufb33'), fc.string()), tie('json'), {
          maxKeys: 6,
        }),
      ),
    }));
    fc.assert(
      fc.property(json, (value) => {
        const text = canonicalJson(value);
        expect(text).toBe(byTheBook(value));
        expect(canonicalJson(JSON.parse(text) as Json)).toBe(text);
      }),
      { numRuns: 2_000 },
    );
    expect(canonicalJson({ 9: 1, 10: 2, a: { b: 1, c: 2 } })).toBe('{"10":2,"9":1,"a":{"b":1,"c":2}}');
    expect(() => canonicalJson({ a: Number.NaN })).toThrow('no such number');
  });
});

describe('the audit log', () => {
  eachDatabase((open) => {
    test('an entry is canonical JSON, its receipt the RFC 9162 leaf hash of its very bytes', async () => {
      const { storage } = await open();
      const { append } = await houseOf(storage);
      await append(started);
      const receipt = await append({
        ...started,
        action: 'enrolment.request',
        outcome: 'refused',
        reason: 'domain-foreign',
        subject: 's',
        request: 'r1',
        facts: { platform: 'linux' },
        personal: { address: 'Alice@corp.example' },
      });
      const [entry] = await new AuditReader(storage).page(1, 10);
      const row = await storage.one<{ body: string; leaf: Buffer }>('SELECT body, leaf FROM audit_entries WHERE idx = 1');
      expect(receipt).toEqual({
        index: 1,
        leaf: createHash('sha256')
          .update(Buffer.concat([Buffer.of(0), Buffer.from(row?.body ?? '')]))
          .digest('base64url'),
      });
      expect(row?.leaf.toString('base64url')).toBe(receipt.leaf);
      expect(row?.body).toBe(canonicalJson(JSON.parse(row?.body ?? '') as Json));
      expect(entry?.body).toMatchObject({
        v: 1,
        index: '1',
        time: '2026-11-23T12:00:00.000Z',
        action: 'enrolment.request',
        outcome: 'refused',
        reason: 'domain-foreign',
        actor: { kind: 'system' },
        facts: { platform: 'linux' },
      });
    });

    test('what names a person is in no leaf, only its salted digest; erasing the value leaves the log whole', async () => {
      const { storage } = await open();
      const { append } = await houseOf(storage);
      await append({ ...began, personal: { address: 'Alice@corp.example' } });
      await append({ ...began, personal: { address: 'Alice@corp.example' } });
      const bodies = await storage.all<{ body: string }>('SELECT body FROM audit_entries');
      expect(JSON.stringify(bodies)).not.toMatch(/alice/i);
      const reader = new AuditReader(storage);
      const [first, second] = await reader.latest(2);
      expect(first?.personal).toEqual({ address: 'Alice@corp.example' });
      expect(first?.body.personal?.['address']).not.toBe(second?.body.personal?.['address']);
      await storage.write((unit) => unit.run('DELETE FROM audit_values WHERE idx = 0'));
      expect((await reader.latest(2))[0]?.personal).toEqual({});
      expect((await checkLog(storage)).problems).toEqual([]);
    });

    test('an entry about a key carries its use counter and its previous leaf, other keys between or not', async () => {
      const { storage } = await open();
      const { append } = await houseOf(storage, ['k1', 'k2']);
      const first = await append(delivered('k1'));
      const other = await append(delivered('k2'));
      await append(started);
      await append(delivered('k1'));
      await append(delivered('nobody'));
      const bodies = (await new AuditReader(storage).page(0, 10)).map(({ body }) => [body.key, body.use, body.previous]);
      expect(bodies).toEqual([
        ['k1', '1', undefined],
        ['k2', '1', undefined],
        [undefined, undefined, undefined],
        ['k1', '2', first.leaf],
        ['nobody', undefined, undefined],
      ]);
      expect(await storage.one('SELECT uses FROM key_uses WHERE key = ?', ['k2'])).toEqual({ uses: 1 });
      expect(other.index).toBe(1);
      expect(await checkLog(storage)).toEqual({ size: 5, keys: 2, problems: [] });
    });

    test('200 appends at once, some undone: no gap, no second head', async () => {
      const { storage } = await open();
      const { log } = await houseOf(storage, ['k1', 'k2', 'k3']);
      const outcomes = await Promise.allSettled(
        Array.from({ length: 200 }, (_, n) =>
          storage.write(async (unit) => {
            const receipt = await log.append(unit, delivered(`k${1 + (n % 3)}`));
            if (n % 10 === 0) throw new Error('undone');
            return receipt.index;
          }),
        ),
      );
      const indices = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      expect(indices.sort((a, b) => a - b)).toEqual(Array.from({ length: 180 }, (_, n) => n));
      expect(await checkLog(storage)).toEqual({ size: 180, keys: 3, problems: [] });
    });

    test('time never goes back in the log, whatever the clock does', async () => {
      const { storage } = await open();
      const { append, clock } = await houseOf(storage);
      await append(started);
      clock.time -= 60_000;
      await append(started);
      clock.time += 120_000;
      await append(started);
      expect((await new AuditReader(storage).page(0, 3)).map(({ body }) => body.time)).toEqual([
        '2026-11-23T12:00:00.000Z',
        '2026-11-23T12:00:00.000Z',
        '2026-11-23T12:01:00.000Z',
      ]);
    });

    test('when the database refuses the entry, the act is undone with it and the caller hears audit-unavailable', async () => {
      const database = await open();
      const { log, append } = await houseOf(database.storage);
      await append(started);
      await database.tamper(
        database.kind === 'sqlite'
          ? "CREATE TRIGGER full BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no room'); END"
          : `CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
             CREATE TRIGGER no_room BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION no_room()`,
      );
      const act = (swallow: boolean) =>
        database.storage.write(async (unit) => {
          await unit.run("INSERT INTO settings (name, value) VALUES ('act', '1')");
          await log.append(unit, started).catch((error) => {
            if (!swallow) throw error;
          });
        });
      await expect(act(false)).rejects.toMatchObject({ kind: 'unavailable', code: 'audit-unavailable' });
      // Even a caller who forgets to let the refusal through commits nothing.
      await expect(act(true)).rejects.toThrow(/no room/);
      expect(await database.storage.all('SELECT name FROM settings')).toEqual([]);
      await database.tamper(database.kind === 'sqlite' ? 'DROP TRIGGER full' : 'DROP TRIGGER no_room ON audit_entries');
      expect(await append(started)).toMatchObject({ index: 1 });
    });

    test('a tail that is cut below what the tree covers is found, also when an entry follows', async () => {
      const database = await open();
      const { append } = await houseOf(database.storage);
      for (let n = 0; n < 3; n += 1) await append(started);
      const tree = new LogTree(database.storage);
      await tree.grow();
      await database.tamper(`${liftKept(database.kind)} DELETE FROM audit_entries WHERE idx >= 1`);
      expect((await checkLog(database.storage)).problems).toEqual(['the tree covers 3 entries, the last one has index 0']);
      await expect(tree.grow()).rejects.toMatchObject({ code: 'audit-holed' });
      // What was signed is not written over: the hole stays.
      expect(await append(started)).toMatchObject({ index: 3 });
      expect((await checkLog(database.storage)).problems).toEqual(['entry 3: the one before has index 0']);
      await expect(tree.grow()).rejects.toMatchObject({ code: 'audit-holed' });
    });

    test('what its schema does not have does not get into the log, whatever was cast on the way', async () => {
      const { storage } = await open();
      const { append } = await houseOf(storage);
      const wrong: object[] = [
        { action: 'key.lend' },
        { action: 'toString' },
        { facts: { note: 'given to Bob' } },
        { action: 'app.issue', facts: { platform: 'a sentence' } },
        { action: 'app.issue', facts: { constructor: 'x' } },
        { action: 'pool.fill', facts: { level: -1 } },
        { action: 'pool.fill', facts: { level: 1.5 } },
        { personal: { address: 'alice@corp.example' } },
        { reason: 'it was Alice' },
        { subject: 'Alice Example' },
        { subject: 'x'.repeat(129) },
        { actor: { kind: 'operator', id: 'two words' } },
      ];
      for (const part of wrong)
        await expect(append({ ...started, ...part } as AuditEvent)).rejects.toMatchObject({ code: 'audit-unavailable' });
      expect(await new AuditReader(storage).size()).toBe(0);
    });

    test('our own code cannot change or delete an entry', async () => {
      const { storage } = await open();
      const { append } = await houseOf(storage);
      await append(started);
      await expect(storage.write((unit) => unit.run("UPDATE audit_entries SET action = 'x'"))).rejects.toThrow(/are kept/);
      await expect(storage.write((unit) => unit.run('DELETE FROM audit_entries'))).rejects.toThrow(/are kept/);
    });

    describe('the check finds', () => {
      const attacks: [string, string, RegExp][] = [
        [
          'an entry whose body was edited',
          `UPDATE audit_entries SET body = replace(body, 'key.deliver', 'device.list') WHERE idx = 2`,
          /entry 2: its leaf is not the hash/,
        ],
        ['an entry whose search columns lie', `UPDATE audit_entries SET employee = 'bob' WHERE idx = 2`, /entry 2: its search columns/],
        ['an entry that is gone', 'DELETE FROM audit_entries WHERE idx = 2', /entry 3: the one before has index 1/],
        ['a tail that is gone', 'DELETE FROM audit_entries WHERE idx = 5', /the tree covers 6 entries, the last one has index 4/],
        [
          'a tail that is gone, with its tree',
          'DELETE FROM audit_entries WHERE idx = 5; UPDATE audit_tree SET size = 5',
          /key k1: its counter says 3 uses, the log 2/,
        ],
        [
          'two entries exchanged',
          'UPDATE audit_entries SET idx = 99 WHERE idx = 1; UPDATE audit_entries SET idx = 1 WHERE idx = 3; UPDATE audit_entries SET idx = 3 WHERE idx = 99',
          /entry 1: its body says index 3/,
        ],
        ['a counter set back', `UPDATE key_uses SET uses = 1 WHERE key = 'k2'`, /key k2: its counter says 1 uses, the log 2/],
        ['a counter that is gone', `DELETE FROM key_uses WHERE key = 'k2'`, /1 keys that the log names have no counter/],
        ['a value that was exchanged', `UPDATE audit_values SET value = 'mallory@corp.example'`, /entry 0: the value kept for "address"/],
        ['a tree that is gone', 'DELETE FROM audit_tree', /the row of the log’s tree is missing/],
        ['an entry before the first', 'UPDATE audit_entries SET idx = -1 WHERE idx = 0', /the first entry has index -1/],
      ];
      test.each(attacks)('%s', async (_, attack, finding) => {
        const database = await open();
        const { append } = await houseOf(database.storage, ['k1', 'k2']);
        await append({ ...began, personal: { address: 'alice@corp.example' } });
        for (const key of ['k1', 'k1', 'k2', 'k2', 'k1']) await append(delivered(key));
        await new LogTree(database.storage).grow();
        expect((await checkLog(database.storage)).problems).toEqual([]);
        await database.tamper(`${liftKept(database.kind)} ${attack}`);
        expect((await checkLog(database.storage)).problems.join('\n')).toMatch(finding);
      });
    });

    test('a check of several pages, while the log grows, finds nothing wrong', async () => {
      const { storage } = await open();
      const { append } = await houseOf(storage, ['k1']);
      for (let round = 0; round < 10; round++) await Promise.all(Array.from({ length: 230 }, () => append(delivered('k1'))));
      const growing = Promise.all(Array.from({ length: 300 }, () => append(delivered('k1'))));
      const check = await checkLog(storage);
      expect(check.problems).toEqual([]);
      expect(check.size).toBeGreaterThanOrEqual(2_300);
      await growing;
    });
  });
});
