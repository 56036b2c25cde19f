import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { deviceOf, Store } from '../../client/src/store/index.js';
import { Appliance } from '../support/appliance.js';
import { form } from '../support/form.js';
import { richPdf } from '../support/rich-pdf.js';
import { SECRET, secretPdf } from '../support/secret-pdf.js';
import { atHand, pdfCorpus } from './pdf-corpus.js';
import { PdfBox } from './pdfbox/pdfbox.js';

jest.setTimeout(60_000);

describe('documents, with keys that the token delivered', () => {
  let ekms: Appliance;
  let box: PdfBox;
  const beside = (name: string) => ekms.beside(name);
  const pdf = (device: string, ...words: string[]) => ekms.mesign(device, 'pdf', ...words);
  const alice = () => ({ p12: beside('alice.p12'), password: 'opensesame' });
  const bob = () => ({ p12: beside('bob.p12'), password: 'opensesame' });

  beforeAll(async () => {
    ekms = await Appliance.open();
    box = PdfBox.start(ekms.folder);
    writeFileSync(beside('word'), 'opensesame\n');
    for (const person of ['alice', 'bob', 'carol']) {
      expect(await ekms.enroll(person, person)).toMatchObject({ status: 0 });
      const [key] = await ekms.listKeys(person);
      expect(
        await ekms.mesign(
          person,
          'export',
          '--key',
          key?.id ?? '',
          '--p12',
          beside(`${person}.p12`),
          '--profile',
          'compat',
          '--p12-passphrase-file',
          beside('word'),
        ),
      ).toMatchObject({ status: 0 });
    }
    writeFileSync(beside('rich.pdf'), await richPdf());
  });
  afterAll(async () => {
    await box?.stop();
    await ekms?.close();
  });

  test('what alice encrypts to bob, PDFBox opens with the key of either, and finds all that was in it', async () => {
    const before = readFileSync(beside('rich.pdf'));
    const source = await box.look(beside('rich.pdf'));
    expect(source).toMatchObject({ pages: '3', attachments: expect.stringContaining('figures.csv:') });
    expect(source['info']).toContain('季度');
    expect(await pdf('alice', 'encrypt', beside('rich.pdf'), '--to', 'bob@corp.example', '-o', beside('sealed.pdf'))).toMatchObject({
      status: 0,
    });
    for (const key of [alice(), bob()]) expect(await box.look(beside('sealed.pdf'), key)).toEqual({ ...source, encrypted: 'true' });
    expect(readFileSync(beside('rich.pdf')).equals(before)).toBe(true);
  });

  test('nobody else opens it, and nothing of it can be read', async () => {
    expect(await box.look(beside('sealed.pdf'), { p12: beside('carol.p12'), password: 'opensesame' })).toHaveProperty('error');
    const refused = await pdf('carol', 'decrypt', beside('sealed.pdf'), '-o', beside('none.pdf'));
    expect(refused).toMatchObject({ status: 3, stderr: expect.stringContaining('no key of this device opens this document') });
    expect(readdirSync(ekms.folder).filter((name) => name === 'none.pdf' || name.endsWith('.part'))).toEqual([]);
    const sealed = readFileSync(beside('sealed.pdf'));
    expect(['figures', 'Anna', 'secret', 'Catalog'].filter((word) => sealed.includes(word))).toEqual([]);
  });

  test('bob decrypts it to what it was', async () => {
    expect(await pdf('bob', 'decrypt', beside('sealed.pdf'), '-o', beside('open.pdf'))).toMatchObject({ status: 0 });
    expect(await box.look(beside('open.pdf'))).toEqual(await box.look(beside('rich.pdf')));
    execFileSync('qpdf', ['--check', beside('open.pdf')], { stdio: 'pipe' });
  });

  test('bob may print and no more, alice everything', async () => {
    expect(
      await pdf('alice', 'encrypt', beside('rich.pdf'), '--to', 'bob@corp.example', '--permissions', 'print', '-o', beside('print.pdf')),
    ).toMatchObject({ status: 0 });
    expect((await box.look(beside('print.pdf'), bob()))['permissions']).toBe('print ');
    expect((await box.look(beside('print.pdf'), alice()))['permissions']).toContain('owner');
  });

  test.each([
    ['all-but-metadata', ['--encrypt', 'all-but-metadata']],
    ['OAEP', ['--oaep']],
    ['AES-128 for the recipients', ['--content', 'aes128']],
  ])('PDFBox opens it with %s', async (_, words) => {
    expect(
      await pdf('alice', 'encrypt', beside('rich.pdf'), '--to', 'bob@corp.example', '-o', beside('other.pdf'), ...words),
    ).toMatchObject({ status: 0 });
    expect(await box.look(beside('other.pdf'), bob())).toEqual({ ...(await box.look(beside('rich.pdf'))), encrypted: 'true' });
    expect(readFileSync(beside('other.pdf')).includes('xpacket')).toBe(words.includes('all-but-metadata'));
    expect(await pdf('bob', 'decrypt', beside('other.pdf'), '-o', beside('other-open.pdf'))).toMatchObject({ status: 0 });
    expect(await box.look(beside('other-open.pdf'))).toEqual(await box.look(beside('rich.pdf')));
  });

  test.each([
    [256, false],
    [128, false],
    [128, true],
  ] as const)('what PDFBox encrypts by %i bits (RC4: %p) opens', async (bits, old) => {
    execFileSync(
      'openssl',
      ['pkcs12', '-in', beside('bob.p12'), '-nokeys', '-clcerts', '-passin', 'pass:opensesame', '-out', beside('bob.pem')],
      { stdio: 'pipe' },
    );
    expect(await box.encrypt(beside('rich.pdf'), beside('theirs.pdf'), beside('bob.pem'), bits, old)).toEqual({ saved: 'true' });
    expect(await pdf('bob', 'decrypt', beside('theirs.pdf'), '-o', beside('theirs-open.pdf'))).toMatchObject({ status: 0 });
    const { info: _, ...found } = await box.look(beside('theirs-open.pdf'));
    expect(await box.look(beside('rich.pdf'))).toMatchObject(found);
  });

  test('an address without a certificate is named, and nothing is written', async () => {
    const refused = await pdf(
      'alice',
      'encrypt',
      beside('rich.pdf'),
      '--to',
      'bob@corp.example,nobody@corp.example',
      '-o',
      beside('none.pdf'),
    );
    expect(refused).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('nobody@corp.example has no valid encrypting certificate'),
    });
    expect(readdirSync(ekms.folder)).not.toContain('none.pdf');
  });

  test('recipients are added and removed; nobody is dropped silently', async () => {
    const sealed = beside('sealed.pdf');
    expect(await pdf('bob', 'recipients', 'add', sealed, 'carol@corp.example', '-o', beside('more.pdf'))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('--stay'),
    });
    expect(
      await pdf('bob', 'recipients', 'add', sealed, 'carol@corp.example', '--stay', 'alice@corp.example', '-o', beside('more.pdf')),
    ).toMatchObject({ status: 0 });
    expect(JSON.parse((await pdf('carol', 'readers', '--json', beside('more.pdf'))).stdout)).toHaveLength(3);
    expect(await pdf('carol', 'decrypt', beside('more.pdf'), '-o', beside('carols.pdf'))).toMatchObject({ status: 0 });
    expect(
      await pdf(
        'bob',
        'recipients',
        'remove',
        beside('more.pdf'),
        'carol@corp.example',
        '--stay',
        'alice@corp.example',
        '-o',
        beside('fewer.pdf'),
      ),
    ).toMatchObject({ status: 0 });
    expect(await pdf('carol', 'decrypt', beside('fewer.pdf'), '-o', beside('none.pdf'))).toMatchObject({ status: 3 });
  });

  test('a reader keeps what they were allowed when others come; who cannot read what that was must say it', async () => {
    const add = (by: string, to: string, ...more: string[]) =>
      pdf(by, 'recipients', 'add', beside('print.pdf'), 'carol@corp.example', '--stay', to, '-o', beside('kept.pdf'), ...more);
    expect(await add('bob', 'alice@corp.example')).toMatchObject({ status: 1, stderr: expect.stringContaining('did not allow') });
    expect(await add('alice', 'bob@corp.example', '--permissions', 'read')).toMatchObject({ status: 0 });
    const found = async (key: { p12: string; password: string }) => (await box.look(beside('kept.pdf'), key))['permissions'];
    expect(await found(bob())).toBe('print ');
    expect(await found({ p12: beside('carol.p12'), password: 'opensesame' })).toBe('');
    expect(await found(alice())).toContain('owner');
    expect(JSON.parse((await pdf('alice', 'readers', '--json', beside('kept.pdf'))).stdout)).toHaveLength(3);
  });

  test('documents of packages that are installed here: encrypted, judged, decrypted (ekms campaign pdf-corpus: all)', async () => {
    const told = await pdfCorpus(atHand().slice(0, 3), box, ekms.folder);
    process.stdout.write(`pdf-corpus: ${JSON.stringify(told)}\n`);
    expect(told).toMatchObject({ encrypted: told.readable, refused: {}, defects: [] });
  });

  test('several files, a pattern and a watched folder; one bad file leaves the others alone', async () => {
    mkdirSync(beside('in'));
    for (const name of ['a.pdf', 'b.pdf']) writeFileSync(beside(`in/${name}`), readFileSync(beside('rich.pdf')));
    writeFileSync(beside('in/c.pdf'), 'no PDF');
    expect(await pdf('alice', 'encrypt', beside('in/*.pdf'), '--to', 'bob@corp.example', '-o', beside('out'))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('2 of 3 done'),
    });
    expect(readdirSync(beside('out'))).toEqual(['a.pdf', 'b.pdf']);
    expect(await pdf('bob', 'decrypt', beside('out'), '--recursive', '-o', beside('back'))).toMatchObject({ status: 0 });
    await sleep(1100);
    expect(await pdf('alice', 'watch', beside('in'), '--to', 'bob@corp.example', '-o', beside('watched'), '--once')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('FAILED c.pdf'),
    });
    expect(readdirSync(beside('watched'))).toEqual(['a.pdf', 'b.pdf']);
  });

  test('in remote mode the token opens the envelope', async () => {
    await ekms.ekms('employee', 'mode', 'carol@corp.example', 'remote');
    await ekms.ekms('key', 'replace', 'carol@corp.example');
    let mode = '';
    for (const until = Date.now() + 20_000; mode !== 'remote' && Date.now() < until; await sleep(200))
      mode = (await ekms.listKeys('carol')).find(({ state }) => state === 'active')?.mode ?? '';
    expect(mode).toBe('remote');
    expect(await pdf('alice', 'encrypt', beside('rich.pdf'), '--to', 'carol@corp.example', '-o', beside('remote.pdf'))).toMatchObject({
      status: 0,
    });
    expect(await pdf('carol', 'decrypt', beside('remote.pdf'), '-o', beside('remote-open.pdf'))).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('remote'),
    });
    expect(await box.look(beside('remote-open.pdf'))).toEqual(await box.look(beside('rich.pdf')));
  });

  test.each([
    ['while a document comes in', 1, 20],
    ['while it is encrypted', 2, 24],
  ])('the appliance, killed %s, leaves nothing of it', async (_, files, megabytes) => {
    const { identity } = deviceOf(await new Store(beside('alice'), undefined).read());
    const whole = form([
      ['recipients', 'bob@corp.example'],
      ['file', { file: 'secret.pdf', bytes: secretPdf() }],
    ]);
    const ask = request({
      ...{ host: 'localhost', port: ekms.port, method: 'POST', path: '/v1/pdf/encryptions', ca: ekms.root },
      ...{ cert: identity.certificates, key: identity.key },
      headers: { ...whole.headers, 'content-length': whole.body.length },
    }).on('error', () => undefined); // it loses its server
    const { pid } = ekms;
    if (files === 1) ask.write(whole.body.subarray(0, megabytes * 2 ** 20));
    else ask.end(whole.body);
    const isThere = () => {
      const sizes = namelessFiles(pid);
      return sizes.length >= files && sizes.every((size) => size > 2 ** 20);
    };
    for (const until = Date.now() + 20_000; !isThere(); await sleep(1)) if (Date.now() > until) throw new Error('it was never on the way');
    process.kill(pid, 'SIGKILL');
    ask.destroy();
    await sleep(200);
    expect(readdirSync(ekms.file('run')).filter((name) => name.startsWith('.pdf'))).toEqual([]);
    expect(spawnSync('grep', ['-rlaF', SECRET, ekms.path]).status).toBe(1);
    process.stdout.write(`appliance killed with ${files} nameless file(s) open: 1 fired\n`);
    await ekms.start();
  });
});

/** Sizes of the files without a name that documents of this process are in. */
function namelessFiles(pid: number): number[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    const path = `/proc/${pid}/fd/${name}`;
    try {
      return /\/\.pdf-[0-9a-f]+ \(deleted\)$/.test(readlinkSync(path)) ? [statSync(path).size] : [];
    } catch {
      return []; // closed meanwhile
    }
  });
}
