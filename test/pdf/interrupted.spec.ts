import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Store } from '../../client/src/store/index.js';
import { permissionBits } from '../../src/codec/pdf/index.js';
import { type Outcome, run } from '../../src/demo/programs.js';
import { PrivateFile } from '../../src/pdf/private-file.js';
import { PdfWorkers } from '../../src/pdf/workers.js';
import { testCertificate } from '../codec/pdf/documents.js';
import { guardOff } from '../support/guard-off.js';
import { SECRET, secretPdf } from '../support/secret-pdf.js';

jest.setTimeout(120_000);

const MESIGN = resolve('dist/programs/mesign.js');
describe('interrupted work on documents', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-interrupted-'));
  const at = (...names: string[]) => join(folder, ...names);
  const full = at('full');
  let mayMount = false;
  const mesign = (...args: string[]): Promise<Outcome> => run(process.execPath, [MESIGN, 'pdf', ...args], { MESIGN_HOME: at('device') });
  /** The built client with one guard taken out. */
  const without = (guard: RegExp, instead: string): string => {
    const parts = readFileSync(resolve('dist/programs/mesign/main.cjs'), 'utf8').split(guard);
    if (parts.length !== 2) throw new Error(`the guard stands there ${parts.length - 1} times: ${guard}`);
    writeFileSync(at('unguarded.cjs'), parts.join(instead));
    return at('unguarded.cjs');
  };

  beforeAll(async () => {
    const subject = [
      '-subj',
      '/CN=anna',
      '-addext',
      'subjectAltName=email:anna@corp.example',
      '-addext',
      'basicConstraints=critical,CA:FALSE',
    ];
    const files = ['-newkey', 'rsa:2048', '-nodes', '-keyout', at('key.pem'), '-out', at('anna.pem')];
    execFileSync('openssl', ['req', '-x509', ...files, ...subject, '-addext', 'keyUsage=keyEncipherment'], { stdio: 'ignore' });
    const certificate = readFileSync(at('anna.pem'), 'utf8');
    const privateKey = createPrivateKey(readFileSync(at('key.pem')))
      .export({ type: 'pkcs8', format: 'der' })
      .toString('base64');
    const key = { id: 'k', suite: 'rsa', state: 'active', mode: 'deliver' as const, certificates: [certificate], privateKey };
    const who = { server: 'https://localhost:1', address: 'anna@corp.example', device: 'd', employee: 'e', root: certificate };
    await new Store(at('device'), undefined).create({
      ...{ v: 1, ...who, certificates: [certificate], identityKey: privateKey, deliveryKey: privateKey, keys: [key] },
    });
    mkdirSync(at('out'));
    mkdirSync(full);
    writeFileSync(at('plain.pdf'), secretPdf());
    mayMount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'ekms-full', full]).status === 0;
    if (!mayMount) process.stderr.write('\n*** nothing may be mounted here: tests of a full disk are SKIPPED ***\n');
  });
  afterAll(() => {
    if (mayMount) spawnSync('umount', ['-l', full]);
    rmSync(folder, { recursive: true, force: true });
  });

  /** Kills the command once it has begun to write; whether that came before its end. */
  async function killed(target: string, args: readonly string[], program = MESIGN): Promise<boolean> {
    const child = spawn(process.execPath, [program, 'pdf', ...args], {
      env: { ...process.env, MESIGN_HOME: at('device') },
      stdio: 'ignore',
    });
    const ended = once(child, 'exit');
    while (child.exitCode === null && child.signalCode === null) {
      if (readdirSync(at('out')).some((name) => statSync(at('out', name), { throwIfNoEntry: false })?.size)) child.kill('SIGKILL');
      await sleep(1);
    }
    await ended;
    return child.signalCode === 'SIGKILL' && (program !== MESIGN || !readdirSync(at('out')).includes(target));
  }

  test('mesign, killed while it encrypts: no document, nothing that can be read, the original as it was; the next one clears up', async () => {
    const before = readFileSync(at('plain.pdf'));
    let [fired, tries] = [0, 0];
    for (; fired < 3 && tries < 20; tries++) {
      if (await killed('sealed.pdf', ['encrypt', at('plain.pdf'), '--certificate', at('anna.pem'), '-o', at('out', 'sealed.pdf')])) {
        fired++;
        const left = readdirSync(at('out'));
        expect(left).toEqual([expect.stringMatching(/^\.mesign-\d+-[0-9a-f]{16}\.part$/)]);
        for (const name of left) expect(readFileSync(at('out', name)).includes(SECRET)).toBe(false);
      }
      rmSync(at('out', 'sealed.pdf'), { force: true });
    }
    process.stdout.write(`mesign killed while it encrypts: ${fired} fired in ${tries} tries\n`);
    expect(fired).toBe(3);
    expect(readFileSync(at('plain.pdf')).equals(before)).toBe(true);
    expect(await mesign('encrypt', at('plain.pdf'), '--certificate', at('anna.pem'), '-o', at('out', 'sealed.pdf'))).toMatchObject({
      status: 0,
    });
    expect(readdirSync(at('out'))).toEqual(['sealed.pdf']);
  });

  test('mesign, killed while it decrypts: no document; what was written is for its owner alone, and goes with the next one', async () => {
    writeFileSync(at('sealed.pdf'), readFileSync(at('out', 'sealed.pdf')));
    rmSync(at('out', 'sealed.pdf'));
    let [fired, tries] = [0, 0];
    for (; fired < 1 && tries < 20; tries++) {
      if (await killed('open.pdf', ['decrypt', at('sealed.pdf'), '-o', at('out', 'open.pdf')])) {
        fired++;
        for (const name of readdirSync(at('out'))) expect(statSync(at('out', name)).mode & 0o077).toBe(0);
      }
      rmSync(at('out', 'open.pdf'), { force: true });
    }
    process.stdout.write(`mesign killed while it decrypts: ${fired} fired in ${tries} tries\n`);
    expect(fired).toBe(1);
    expect(await mesign('decrypt', at('sealed.pdf'), '-o', at('out', 'open.pdf'))).toMatchObject({ status: 0 });
    expect(readdirSync(at('out'))).toEqual(['open.pdf']);
  });

  test('mesign on a full disk says so and leaves nothing, encrypting and decrypting', async () => {
    if (!mayMount) return;
    for (const [act, input, more] of [
      ['encrypt', 'plain.pdf', ['--certificate', at('anna.pem')]],
      ['decrypt', 'sealed.pdf', []],
    ] as const) {
      const said = await mesign(act, at(input), ...more, '-o', join(full, 'result.pdf'));
      expect(said).toMatchObject({ status: 1, stderr: expect.stringContaining('result.pdf cannot be written') });
      expect(readdirSync(full)).toEqual([]);
    }
    process.stdout.write('full disk under mesign: 2 fired\n');
  });

  test('the appliance on a full disk refuses by name, while a document comes in and while it is encrypted, and leaves nothing', async () => {
    if (!mayMount) return;
    const content = readFileSync(at('plain.pdf'));
    const upload = PrivateFile.create(full);
    const pieces = (async function* () {
      for (let start = 0; start < content.length; start += 65_536) yield content.subarray(start, start + 65_536);
    })();
    await expect(upload.fill(pieces, content.length)).rejects.toMatchObject({ code: 'disk-full' });
    // What the log needs to go on is left.
    const { bavail, blocks } = statfsSync(full);
    expect(bavail).toBeGreaterThanOrEqual(Math.floor(blocks * 0.05));
    expect(() => PrivateFile.create(full, 2 ** 20)).toThrow(expect.objectContaining({ code: 'disk-full' }));
    expect(readdirSync(full)).toEqual([]);
    await upload.close();
    // The document lies elsewhere; its result is to go onto the full disk.
    const [input, output] = [openSync(at('plain.pdf'), 'r'), PrivateFile.create(full)];
    const encrypted = new PdfWorkers(resolve('dist/programs/pdf/worker.js')).encrypt({
      ...{ input, size: content.length, output: output.descriptor, components: 'all', signatures: 'refuse' },
      groups: [{ certificates: [testCertificate], permissions: permissionBits('owner') }],
      form: { transport: 'pkcs1', cipher: 'aes-256-cbc' },
    });
    await expect(encrypted).rejects.toMatchObject({ code: 'disk-full' });
    closeSync(input);
    await output.close();
    expect(readdirSync(full)).toEqual([]);
    // Given back: a name that is gone keeps no room.
    writeFileSync(join(full, 'room'), Buffer.alloc(3 * 2 ** 20));
    rmSync(join(full, 'room'));
    process.stdout.write('full disk under the appliance: 2 fired\n');
  });

  test('what a document says of itself begins no line as if mesign said it', async () => {
    const name = 'a#0Amesign:#20opened#20for#20anna';
    const objects = '1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n';
    writeFileSync(at('named.pdf'), `%PDF-1.7\n${objects}trailer\n<</Root 1 0 R/Encrypt<</Filter/${name}>>>>\nstartxref\n0\n%%EOF\n`);
    const { stderr } = await mesign('decrypt', at('named.pdf'), '-o', at('out', 'named.pdf'));
    expect(stderr).toMatch(/^mesign: [^\n]*"a\?mesign: opened[^\n]*\n$/);
  });

  test('with a guard out, each of these is lost: half a document under its name, what a killed one left, what others may read', async () => {
    const toAnna = ['encrypt', at('plain.pdf'), '--certificate', at('anna.pem'), '-o', at('out', 'sealed.pdf')];
    const open = ['decrypt', at('sealed.pdf'), '-o', at('out', 'open.pdf')];
    const fire = async (target: string, args: readonly string[], program?: string) => {
      for (const name of readdirSync(at('out'))) rmSync(at('out', name));
      for (let tries = 0; tries < 20; tries++) if (await killed(target, args, program)) return readdirSync(at('out'));
      throw new Error('it was never met on the way');
    };
    const half = await fire('sealed.pdf', toAnna, without(/const beside = [^\n]*\.mesign-[^\n]*/, 'const beside = arguments[0];'));
    expect(half).toEqual(['sealed.pdf']);
    expect(spawnSync('qpdf', ['--show-npages', at('out', 'sealed.pdf')]).status).not.toBe(0);

    expect(await fire('sealed.pdf', toAnna)).toHaveLength(1);
    await run(process.execPath, [without(/(?<!function )removeLeftovers\(folder\);/, ''), 'pdf', ...toAnna], { MESIGN_HOME: at('device') });
    expect(readdirSync(at('out'))).toHaveLength(2);

    const [left = ''] = await fire('open.pdf', open, without(/writeDocument\(job\.output, 384,/, 'writeDocument(job.output, 420,'));
    expect(statSync(at('out', left)).mode & 0o077).not.toBe(0);
  });

  test('with a guard out, a full disk keeps what was begun under the client, and under the appliance it is a defect, or a file with a name', async () => {
    if (!mayMount) return;
    const program = without(/\(0, import_node_fs\d*\.unlinkSync\)\(beside\);/, '');
    const args = ['pdf', 'encrypt', at('plain.pdf'), '--certificate', at('anna.pem'), '-o', join(full, 'result.pdf')];
    expect(await run(process.execPath, [program, ...args], { MESIGN_HOME: at('device') })).toMatchObject({ status: 1 });
    expect(readdirSync(full)).toEqual([expect.stringMatching(/\.part$/)]);
    for (const name of readdirSync(full)) rmSync(join(full, name));

    type Module = typeof import('../../src/pdf/private-file.js');
    const file = 'src/pdf/private-file.ts';
    const pieces = async function* () {
      for (let start = 0; start < 8; start++) yield Buffer.alloc(2 ** 20, SECRET);
    };
    const toTheEnd = { guard: 'if (this.#room < piece.length) throw diskFull();', instead: '' };
    const guard = { file, guard: '      throw diskFault(error);', instead: '      throw error;' };
    const unnamed = guardOff<Module>(guard, toTheEnd).PrivateFile.create(full);
    await expect(unnamed.fill(pieces(), 2 ** 24)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(statfsSync(full).bavail).toBe(0);
    await unnamed.close();
    // As a killed process leaves it: nothing more is run.
    const named = guardOff<Module>({ file, guard: '    unlinkSync(path);', instead: '' }).PrivateFile.create(full);
    await expect(named.fill(pieces(), 2 ** 24)).rejects.toMatchObject({ code: 'disk-full' });
    const [left = ''] = readdirSync(full);
    expect(readFileSync(join(full, left)).includes(SECRET)).toBe(true);
    await named.close();
    rmSync(join(full, left));
  });
});
