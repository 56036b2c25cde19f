import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { request } from 'node:https';
import { inflateRawSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { openTransport } from '../../src/codec/cms/index.js';
import { filtersFor, lockOf, PdfFile } from '../../src/codec/pdf/index.js';
import { decrypted, sourceOf, testCertificate, unlocked } from '../codec/pdf/documents.js';
import { type Field, form } from '../support/form.js';
import { guardOff } from '../support/guard-off.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openKey } from '../support/open-delivery.js';
import { richPdf } from '../support/rich-pdf.js';
import { refusal, send, type WireReply } from '../support/wire.js';
import { asDevice, enrolDevice, keysOf, type WireDevice } from '../support/wire-device.js';

jest.setTimeout(60_000);

/** Files of a ZIP whose entries are stored as they are, by the central directory (APPNOTE 4.3.12). */
function unzipped(zip: Buffer): Record<string, Buffer> {
  const found: Record<string, Buffer> = {};
  const end = zip.lastIndexOf(Buffer.from('504b0506', 'hex'));
  for (let at = zip.readUInt32LE(end + 16), left = zip.readUInt16LE(end + 10); left > 0; left--) {
    const [size, name, extra, comment, local] = [
      zip.readUInt32LE(at + 20),
      zip.readUInt16LE(at + 28),
      zip.readUInt16LE(at + 30),
      zip.readUInt16LE(at + 32),
      zip.readUInt32LE(at + 42),
    ];
    const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
    const bytes = zip.subarray(start, start + size);
    found[zip.toString('utf8', at + 46, at + 46 + name)] = zip.readUInt16LE(at + 10) === 8 ? inflateRawSync(bytes) : bytes;
    at += 46 + name + extra + comment;
  }
  return found;
}

describe('POST /v1/pdf/encryptions', () => {
  let house: HouseInProcess;
  let alice: WireDevice;
  let bob: WireDevice;
  let keys: Record<'alice' | 'bob', KeyObject>;
  let pdf: Buffer;
  const to = 'bob@corp.example';

  beforeAll(async () => {
    house = await HouseInProcess.open({
      settings: {
        keys: { bits: 2048, pool: { target: 3 } },
        budgets: { documents: { person: { minute: 60 } } },
        documents: { megabytes: 4, groups: { board: ['bob@corp.example', 'alice@corp.example'] } },
      },
    });
    alice = await enrolDevice(house, 'alice@corp.example');
    bob = await enrolDevice(house, to);
    const [hers, his] = [await keysOf(house, alice), await keysOf(house, bob)];
    keys = { alice: openKey(hers[0]?.delivery ?? null, alice.keys.delivery), bob: openKey(his[0]?.delivery ?? null, bob.keys.delivery) };
    pdf = await richPdf();
  });
  afterAll(() => house?.close());

  const asAlice = (path: string, fields: readonly Field[], as = alice): Promise<WireReply> =>
    send({
      port: house.port,
      root: house.root,
      method: 'POST',
      path,
      ...form(fields),
      identity: { certificates: as.certificates, key: as.keys.identity },
    });
  const encrypt = (...fields: Field[]) => asAlice('/v1/pdf/encryptions', [['recipients', to], ...fields]);
  const file = (bytes = pdf, name = 'figures.pdf'): Field => ['file', { file: name, bytes }];
  const opensFor = (bytes: Buffer, ...who: ('alice' | 'bob')[]) => {
    for (const name of who) expect(decrypted(bytes, keys[name]).told.pages).toBe(3);
  };

  test('a device gets its document back, for itself and whom it named, and the log knows both digests', async () => {
    const reply = await encrypt(file());
    expect(reply.status).toBe(200);
    expect(Object.fromEntries(reply.headers)).toMatchObject({
      'content-type': 'application/pdf',
      'content-length': String(reply.body.length),
    });
    opensFor(reply.body, 'alice', 'bob');
    const [entry] = (await house.log()).filter(({ action }) => action === 'pdf.encrypt');
    const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('base64url');
    expect(entry).toMatchObject({
      outcome: 'done',
      facts: { source: digest(pdf), result: digest(reply.body), pages: 3, recipients: 1 },
      personal: { recipients: to },
    });
    expect(JSON.stringify(entry)).not.toContain('figures');
    expect(Object.fromEntries(reply.headers)['ekms-receipt']).toMatch(/^\d+ [\w-]{43}$/);
  });

  test('staff do the same by the page of their listener, and other sites do not', async () => {
    const { cookie } = await house.house.storage.write((unit) =>
      house.house.sessions.begin(
        unit,
        { audience: 'staff', subject: 'alice@corp.example', method: 'mail' },
        { kind: 'staff' },
        { id: 'r', network: '127.0.0.1' },
      ),
    );
    const origin = house.house.origins.of('staff');
    const { body, headers } = form([['recipients', to], file()]);
    const ask = (from: string) =>
      send({
        port: Number(new URL(origin).port),
        root: house.root,
        method: 'POST',
        path: '/v1/pdf/encryptions',
        body,
        headers: { ...headers, cookie: cookie.split(';')[0] ?? '', origin: from },
      });
    const reply = await ask(origin);
    expect(reply.status).toBe(200);
    opensFor(reply.body, 'alice', 'bob');
    expect(refusal(await ask('https://elsewhere.example'))).toBe('403 cross-site');
  });

  test('a batch becomes a ZIP; one bad document leaves the others alone', async () => {
    const reply = await encrypt(file(pdf, 'one.pdf'), file(Buffer.from('no PDF'), 'two.pdf'), file(pdf, 'three.pdf'));
    expect(Object.fromEntries(reply.headers)['content-type']).toBe('application/zip');
    const files = unzipped(reply.body);
    expect(Object.keys(files).sort()).toEqual(['one.pdf', 'results.json', 'three.pdf']);
    for (const name of ['one.pdf', 'three.pdf']) opensFor(files[name] ?? Buffer.alloc(0), 'bob');
    expect(JSON.parse(String(files['results.json']))).toMatchObject([
      { state: 'encrypted', pages: 3 },
      { name: 'two.pdf', state: 'refused', code: 'pdf-not' },
      { state: 'encrypted' },
    ]);
  });

  test('groups count as their members, before anybody is looked up', async () => {
    const ask = (...recipients: string[]) =>
      send({
        port: house.port,
        root: house.root,
        method: 'POST',
        path: '/v1/pdf/recipients',
        body: JSON.stringify({ recipients }),
        identity: { certificates: alice.certificates, key: alice.keys.identity },
      });
    expect((await ask(...Array<string>(100).fill('group:board'))).json).toHaveLength(200);
    expect(refusal(await ask(...Array<string>(101).fill('group:board')))).toBe('413 recipients-too-many');
  });

  test('groups, permissions for each, and what the readers of a document are', async () => {
    const people = JSON.stringify([{ email: 'group:board', permissions: 'print' }]);
    const reply = await asAlice('/v1/pdf/encryptions', [['recipients', people], file()]);
    expect(reply.status).toBe(200);
    expect(unlocked(reply.body, keys.bob).encryptDict()?.size).toBeGreaterThan(0);
    const readers = await asAlice('/v1/pdf/readers', [file(reply.body)]);
    expect(readers.json).toMatchObject({ encryption: 'certificates', readers: [{ serial: expect.stringMatching(/^[0-9a-f]+$/) }, {}] });
    expect((await asAlice('/v1/pdf/readers', [file()])).json).toEqual({ encryption: 'none', readers: [] });
  });

  test('a document that takes its reader long keeps nobody else waiting, whatever is asked of it', async () => {
    const bytes = Buffer.concat([Buffer.from('%PDF-1.7\n'), Buffer.alloc(1.5 * 2 ** 20, 'trailer <<\n')]);
    for (const path of ['/v1/pdf/readers', '/v1/pdf/encryptions']) {
      let stall = 0;
      let last = performance.now();
      const beat = setInterval(() => {
        stall = Math.max(stall, performance.now() - last);
        last = performance.now();
      }, 5);
      const began = performance.now();
      const reply = await asAlice(path, [['recipients', to], file(bytes)]);
      clearInterval(beat);
      expect(refusal(reply)).toBe('400 pdf-damaged');
      expect(stall).toBeLessThan((performance.now() - began) / 2);
    }
  });

  test.each([1, 3])('who leaves while %i of their documents are encrypted leaves no file open', async (count) => {
    const held = () =>
      readdirSync('/proc/self/fd').filter((descriptor) => {
        try {
          return readlinkSync(`/proc/self/fd/${descriptor}`).includes('/.pdf-');
        } catch {
          return false; // closed by now
        }
      }).length;
    const until = async (isSo: () => boolean) => {
      for (const end = Date.now() + 20_000; !isSo() && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 2));
      expect(isSo()).toBe(true);
    };
    const documents = Array.from({ length: count }, (_, n): Field => file(pdf, `${n}.pdf`));
    const { body, headers } = form([['recipients', to], ...documents]);
    const leaving = request({
      ...{ host: '127.0.0.1', port: house.port, ca: house.root, checkServerIdentity: () => undefined, agent: false },
      ...{ cert: alice.certificates, key: alice.keys.identity.export({ type: 'pkcs8', format: 'pem' }) },
      ...{ method: 'POST', path: '/v1/pdf/encryptions', headers: { ...headers, 'content-length': body.length } },
    });
    leaving.on('error', () => undefined).end(body);
    await until(() => held() > count); // a result is on its way
    leaving.destroy();
    await until(() => held() === 0);
    expect(house.defects).toEqual([]);
  });

  describe('a document that is encrypted already', () => {
    type Reader = { serial: string; key: { scheme: string; encryptedKey: string; length: 16 | 24 | 32 } };
    const readersOf = async (bytes: Buffer, as = alice) =>
      ((await asAlice('/v1/pdf/readers', [file(bytes)], as)).json as { readers: Reader[] }).readers;
    /** What `key` opens of the document; the first reader whom it opens anything for. */
    const openedBy = async (key: KeyObject, bytes: Buffer): Promise<Buffer | undefined> => {
      for (const reader of await readersOf(bytes)) {
        const found = openTransport(key, { scheme: 'pkcs1' }, Buffer.from(reader.key.encryptedKey, 'base64'));
        if (found?.length === reader.key.length) return found;
      }
      return undefined;
    };
    const opening = (key: Buffer | undefined, name = 'figures.pdf'): Field => [
      'opening',
      JSON.stringify({ [name]: key?.toString('base64') ?? '' }),
    ];
    const again = (as: WireDevice, bytes: Buffer, ...fields: Field[]) =>
      asAlice('/v1/pdf/encryptions', [['recipients', to], ...fields, file(bytes)], as);
    let sealed: Buffer;
    let key: Buffer | undefined;

    beforeAll(async () => {
      sealed = (await asAlice('/v1/pdf/encryptions', [['recipients', 'alice@corp.example'], file()])).body;
      key = await openedBy(keys.alice, sealed);
    });

    test('goes to others by the key that a reader’s device opened, and the log says that it was encrypted', async () => {
      const reply = await again(alice, sealed, opening(key));
      expect([reply.status, decrypted(reply.body, keys.bob).told]).toMatchObject([200, { pages: 3, warnings: [] }]);
      expect((await house.log(1))[0]).toMatchObject({ action: 'pdf.encrypt', outcome: 'done', facts: { opened: true, pages: 3 } });
      const several = await again(alice, sealed, opening(key), file(pdf, 'plain.pdf'));
      expect(JSON.parse(String(unzipped(several.body)['results.json']))).toMatchObject([{ state: 'encrypted' }, { state: 'encrypted' }]);
    });

    test('where the key stays, the token opens it for the reader’s device', async () => {
      const dora = await enrolDevice(house, 'dora@corp.example');
      await keysOf(house, dora);
      await house.act('employee.mode', { address: 'dora@corp.example', mode: 'remote' });
      const held = (await keysOf(house, dora)).find(({ state, mode }) => state === 'active' && mode === 'remote');
      const bytes = (await asAlice('/v1/pdf/encryptions', [['recipients', 'dora@corp.example'], file()])).body;
      const serial = new X509Certificate(held?.certificates[0] ?? '').serialNumber.toLowerCase();
      const ask = (await readersOf(bytes)).find((reader) => reader.serial === serial)?.key ?? {};
      const { wrapped, hash } = (await asDevice(house, dora, 'POST', `/v1/keys/${held?.id}/decryptions`, ask)).json as {
        wrapped: string;
        hash: string;
      };
      const own = openTransport(
        dora.keys.delivery,
        { scheme: 'oaep', hash, mgfHash: hash, label: Buffer.alloc(0) },
        Buffer.from(wrapped, 'base64'),
      );
      opensFor((await again(dora, bytes, opening(own))).body, 'bob');
    });

    test('stays closed to whoever is none of its readers, has not its key, or may only read it; and to the sites that say so', async () => {
      const codes = async (...asks: Promise<WireReply>[]) => (await Promise.all(asks)).map(refusal);
      expect(
        await codes(
          again(alice, sealed),
          again(bob, sealed, opening(key)),
          again(alice, sealed, opening(Buffer.alloc(32))),
          again(alice, sealed, opening(Buffer.alloc(5))),
          again(alice, sealed, opening(key, 'other.pdf')),
          again(alice, sealed, ['opening', 'x']),
        ),
      ).toEqual([
        '409 pdf-encrypted',
        '403 pdf-not-reader',
        '403 pdf-key-wrong',
        '403 pdf-key-wrong',
        '400 body-malformed',
        '400 body-malformed',
      ]);
      const toRead = (await asAlice('/v1/pdf/encryptions', [['recipients', to], ['permissions', 'read'], file()])).body;
      expect(await codes(again(bob, toRead, opening(await openedBy(keys.bob, toRead))))).toEqual(['403 permission-missing']);
      const { settings } = house.house.pdf;
      settings.encrypted = 'refuse';
      expect(await codes(again(alice, sealed, opening(key)))).toEqual(['409 pdf-encrypted']);
      settings.encrypted = 'open';
    });

    test('with the guard out, somebody’s key opens for somebody else', () => {
      const found = lockOf(PdfFile.open(sourceOf(sealed)));
      if (found.kind !== 'public-key' || !key) throw new Error('it is encrypted');
      const { filtersFor: unguarded } = guardOff<typeof import('../../src/codec/pdf/lock.js')>({
        file: 'src/codec/pdf/lock.ts',
        guard: 'lock.envelopes.find(({ recipients }) => recipients.some(({ id }) => mine.some((names) => isNamedBy(id, names))))',
        instead: 'lock.envelopes[0]',
      });
      expect(unguarded(found.lock, key, [testCertificate]).permissions).toBe(-1);
      expect(() => filtersFor(found.lock, key ?? Buffer.alloc(0), [testCertificate])).toThrow('none of its readers');
    });
  });

  test.each<[string, string, () => Field[]]>([
    ['409 recipients-unresolved', 'an address without a certificate', () => [['recipients', 'nobody@corp.example'], file()]],
    ['404 group-unknown', 'an unknown group', () => [['recipients', 'group:none'], file()]],
    ['400 file-missing', 'no document', () => []],
    ['400 file-name-unfit', 'a name with a path', () => [file(pdf, '../../etc/passwd.pdf')]],
    ['400 file-name-unfit', 'two of one name', () => [file(), file()]],
    ['400 pdf-not', 'no PDF', () => [file(Buffer.from('hello'))]],
    ['400 pdf-truncated', 'half a PDF', () => [file(pdf.subarray(0, pdf.length / 2))]],
    ['409 pdf-encrypted', 'an encrypted one', () => [file(encryptedBefore)]],
    ['413 pdf-too-large', 'a large one', () => [file(Buffer.alloc(4 * 2 ** 20 + 1, 'a'))]],
    ['400 permissions-unknown', 'unknown permissions', () => [['permissions', 'fly'], file()]],
    ['400 body-malformed', 'malformed recipients', () => [['recipients', '[{"mail":1}]'], file()]],
    ['400 certificate-unfit', 'a certificate that is none', () => [['certificate', { file: 'c.pem', bytes: Buffer.from('x') }], file()]],
    [
      '413 recipients-too-many',
      'a thousand recipients',
      () => [['recipients', Array.from({ length: 1000 }, (_, n) => `a${n}@corp.example`).join()], file()],
    ],
  ])('%s: %s', async (expected, what, fields) => {
    encryptedBefore ??= (await encrypt(file())).body;
    const asked = fields();
    const reply = await asAlice(
      '/v1/pdf/encryptions',
      what.includes('recipients') || asked.some(([name]) => name === 'recipients') ? asked : [['recipients', to], ...asked],
    );
    expect(refusal(reply)).toBe(expected);
  });
  let encryptedBefore: Buffer;

  test.each([
    ['with commas between', (addresses: string[]) => addresses.join()],
    ['as JSON', (addresses: string[]) => JSON.stringify(addresses.map((email) => ({ email })))],
  ])('a million recipients %s are refused by name, without being held or looked up', async (_, spelled) => {
    const recipients = spelled(Array.from({ length: 1_000_000 }, (__, n) => `a${n}@corp.example`));
    const [began, before] = [performance.now(), process.memoryUsage()];
    let most = 0;
    const look = setInterval(() => {
      const { heapUsed, external } = process.memoryUsage();
      most = Math.max(most, heapUsed + external - before.heapUsed - before.external);
    }, 20);
    const reply = await asAlice('/v1/pdf/encryptions', [['recipients', recipients], file()]);
    clearInterval(look);
    expect(refusal(reply)).toBe('413 field-too-large');
    // The request itself, of up to 28 MB, is made and sent in this process too: three times its size.
    expect(most / 2 ** 20).toBeLessThan(150 + (3 * recipients.length) / 2 ** 20);
    // Two seconds on a quiet machine; this one may be busy.
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  test('whoever sends in more documents than their budget waits; nobody else does', async () => {
    let last: WireReply;
    let done = 0;
    // Charged before anything of it is read.
    do last = await asAlice('/v1/pdf/readers', [], bob);
    while (refusal(last) === '400 file-missing' && ++done < 130);
    expect(refusal(last)).toBe('429 budget-exceeded');
    expect(Number(Object.fromEntries(last.headers)['retry-after'])).toBeGreaterThan(0);
    expect((await asAlice('/v1/pdf/readers', [file()])).status).toBe(200);
    expect((await house.log()).filter(({ action }) => action === 'budget.exceed')).toMatchObject([
      { facts: { counter: 'documents', scope: 'person', window: 'minute' } },
    ]);
  });

  test('an expired and a revoked certificate are told apart', async () => {
    const carol = await enrolDevice(house, 'carol@corp.example');
    await keysOf(house, carol);
    await house.act('key.replace', { address: 'carol@corp.example', because: 'compromised' }).catch(() => undefined);
    await house.db.write((unit) =>
      unit.run("UPDATE certificates SET revoked_at = 1, reason = 1 WHERE address = 'carol@corp.example' AND profile = 'person'"),
    );
    const body = JSON.stringify({ recipients: ['carol@corp.example', to, 'nobody@corp.example'] });
    const ask = () =>
      send({
        port: house.port,
        root: house.root,
        method: 'POST',
        path: '/v1/pdf/recipients',
        body,
        identity: { certificates: alice.certificates, key: alice.keys.identity },
      });
    expect((await ask()).json).toMatchObject([
      { state: 'revoked', certificates: 0 },
      { state: 'valid', certificates: 1 },
      { state: 'none' },
    ]);
  });

  test('nobody becomes a reader of everything: without agents there is no recovery, and a row that says so is not enough, unless the guard is out', async () => {
    await expect(house.act('documents.recovery-on', { address: 'd@corp.example' })).rejects.toMatchObject({ code: 'no-recovery-agents' });
    // Two rows that fit one another do not make him one.
    const turn = (mode: string) => house.db.write((unit) => unit.run('UPDATE keys SET mode = ? WHERE employee = ?', [mode, bob.employee]));
    await turn('quorum');
    expect(refusal(await encrypt(file()))).toBe('403 record-forged');
    await turn('deliver');
    await house.db.write((unit) => house.house.reader.begin(unit, { employee: bob.employee, address: to }));
    expect(refusal(await encrypt(file()))).toBe('403 record-forged');
    const { DocumentRecovery } = guardOff<typeof import('../../src/custody/document-recovery.js')>({
      file: 'src/custody/document-recovery.ts',
      guard: "record?.mode !== 'quorum' || ",
      instead: '!record || ',
    });
    const unguarded = new DocumentRecovery({ ...house.house, agents: house.house.recoveryAgents, domains: [] });
    expect(new X509Certificate((await unguarded.certificate()) ?? '').subjectAltName).toContain(to);
    await house.db.write((unit) => house.house.reader.end(unit));
    expect((await encrypt(file())).status).toBe(200);
    // A setting that nobody sealed makes nobody one either.
    const put = (value: string) =>
      house.db.write((unit) => unit.run("INSERT INTO settings (name, value) VALUES ('access.document-reader', ?)", [value]));
    await put(JSON.stringify({ employee: bob.employee, address: to, mac: '' }));
    expect(refusal(await encrypt(file()))).toBe('403 record-forged');
    await house.db.write((unit) => unit.run("DELETE FROM settings WHERE name = 'access.document-reader'"));
    // Nor does a row have a person's next key made as one that no device ever gets.
    await house.db.write((unit) => unit.run("UPDATE employees SET mode = 'quorum' WHERE id = ?", [bob.employee]));
    await house.act('key.replace', { address: to, because: 'superseded' });
    expect(await house.db.one("SELECT mode FROM keys WHERE employee = ? AND state = 'active'", [bob.employee])).toEqual({
      mode: 'deliver',
    });
    await house.db.write((unit) => unit.run('UPDATE employees SET mode = NULL WHERE id = ?', [bob.employee]));
  });

  test('nothing of a document is left, nothing was a defect', async () => {
    expect(readdirSync(`${house.house.configuration.home}/run`).filter((name) => name.startsWith('.pdf'))).toEqual([]);
    expect(house.defects).toEqual([]);
  });
});
