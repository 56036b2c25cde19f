import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { program } from '../../src/commands/program.js';

const SYSTEM = resolve('deploy/system');
const UNITS = ['ekms.service', 'ekms-token.service', 'ekms-firewall.service'];
/** systemd-analyze's exposure, times ten: 2.0. */
const THRESHOLD = '20';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-deploy-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ended = (program: string, ...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  return { status, said: `${stdout}${stderr}` };
};

describe('systemd, which the units are for, finds', () => {
  test.each(UNITS)('nothing wrong with %s', (unit) => {
    // Nothing is installed here: programs of this checkout, and of any Debian, stand in their places.
    const here = readFileSync(join(SYSTEM, unit), 'utf8')
      .replaceAll('/opt/ekms/current', resolve('.'))
      .replaceAll('/usr/sbin/nft', '/bin/true');
    writeFileSync(join(folder, unit), here);
    expect(ended('systemd-analyze', 'verify', '--man=no', join(folder, unit))).toEqual({ status: 0, said: '' });
  });

  const exposure = (unit: string) => ended('systemd-analyze', 'security', '--offline=yes', `--threshold=${THRESHOLD}`, unit);
  test.each(['ekms.service', 'ekms-token.service'])('the exposure of %s at 2.0 or below, and above without its hardening', (unit) => {
    const { status, said } = exposure(join(SYSTEM, unit));
    const [, level] = /Overall exposure level for \S+: (\d+\.\d)/.exec(said) ?? [];
    expect([status, Number(level) <= 2]).toEqual([0, true]);
    const bare = readFileSync(join(SYSTEM, unit), 'utf8').replace(/^(Protect|Restrict|SystemCall|Private|Capability|NoNew).*$/gm, '');
    writeFileSync(join(folder, unit), bare);
    expect(exposure(join(folder, unit)).status).not.toBe(0);
  });

  test('that the token process is kept from swap, cores and networks', () => {
    const unit = readFileSync(join(SYSTEM, 'ekms-token.service'), 'utf8').split('\n');
    for (const line of [
      'MemorySwapMax=0',
      'LimitCORE=0',
      'CoredumpFilter=0',
      'PrivateNetwork=yes',
      'CapabilityBoundingSet=',
      'User=ekms-token',
    ])
      expect(unit).toContain(line);
  });
});

describe('a bundle is refused before anything of it counts', () => {
  const file = (name: string) => join(folder, 'bundle', name);
  const check = (key = join(folder, 'public.pem')) => ended('sh', file('install'), '--check', '--key', key);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] });
  const newKey = (name: string) => {
    openssl('genpkey', '-algorithm', 'ed25519', '-out', `${name}.key`);
    openssl('pkey', '-in', `${name}.key`, '-pubout', '-out', `${name}.pem`);
  };
  const sign = () =>
    openssl('pkeyutl', '-sign', '-rawin', '-inkey', 'public.key', '-in', file('SHA256SUMS'), '-out', file('SHA256SUMS.sig'));

  beforeEach(() => {
    mkdirSync(file('packages'), { recursive: true });
    const architecture = execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' });
    const content = { VERSION: '9.9.9\n', ARCHITECTURE: architecture, 'application.tar.gz': 'bytes', 'packages/some.deb': 'bytes' };
    for (const [name, text] of Object.entries(content)) writeFileSync(file(name), text);
    writeFileSync(file('install'), readFileSync('deploy/install'));
    execFileSync('sh', ['-c', 'find . -type f | sed "s#^./##" | sort | xargs sha256sum >../sums && mv ../sums SHA256SUMS'], {
      cwd: join(folder, 'bundle'),
    });
    newKey('public');
    sign();
  });

  test('but not when it is whole', () => {
    expect(check()).toEqual({ status: 0, said: expect.stringContaining('9.9.9 is whole') });
  });

  test.each<[string, string, () => void]>([
    ['a byte is changed', 'not what was signed', () => writeFileSync(file('application.tar.gz'), 'bytez')],
    ['a package is changed', 'not what was signed', () => writeFileSync(file('packages/some.deb'), 'other')],
    ['its installer is changed', 'not what was signed', () => writeFileSync(file('install'), `${readFileSync(file('install'), 'utf8')}\n`)],
    ['a file is missing', 'not what was signed', () => rmSync(file('packages/some.deb'))],
    ['a file is added', 'nobody signed', () => writeFileSync(file('packages/other.deb'), 'x')],
    ['a file is a link', 'something else than files', () => symlinkSync('/etc/passwd', file('packages/other.deb'))],
    [
      'the sums are changed with the file',
      'not signed by that key',
      () => {
        writeFileSync(file('packages/other.deb'), 'x');
        writeFileSync(file('SHA256SUMS'), `${readFileSync(file('SHA256SUMS'), 'utf8')}${'0'.repeat(64)}  packages/other.deb\n`);
      },
    ],
    ['the signature is empty', 'not signed by that key', () => writeFileSync(file('SHA256SUMS.sig'), '')],
    ['there is no signature', 'not signed by that key', () => rmSync(file('SHA256SUMS.sig'))],
    ['nothing is listed', 'not signed by that key', () => writeFileSync(file('SHA256SUMS'), '')],
    [
      'it is for another machine',
      'is for m68k',
      () => {
        writeFileSync(file('ARCHITECTURE'), 'm68k\n');
        const sum = execFileSync('sha256sum', ['ARCHITECTURE'], { cwd: join(folder, 'bundle'), encoding: 'utf8' });
        writeFileSync(file('SHA256SUMS'), readFileSync(file('SHA256SUMS'), 'utf8').replace(/^.*ARCHITECTURE\n/m, sum));
        sign();
      },
    ],
  ])('when %s', (_what, why, spoil) => {
    spoil();
    expect(check()).toEqual({ status: 1, said: expect.stringContaining(why) });
  });

  test('when another key signed it, or none is named, or the key is unreadable', () => {
    newKey('other');
    expect(check(join(folder, 'other.pem'))).toEqual({ status: 1, said: expect.stringContaining('not signed by that key') });
    expect(check(join(folder, 'nowhere.pem')).status).toBe(1);
    expect(ended('sh', file('install'), '--check')).toEqual({ status: 1, said: expect.stringContaining('--key') });
    writeFileSync(join(folder, 'text.pem'), 'no key');
    chmodSync(join(folder, 'text.pem'), 0o600);
    expect(check(join(folder, 'text.pem')).status).toBe(1);
  });
});

test('the installed ekms becomes the token’s user for just the commands that read that user’s settings', () => {
  const wrapper = readFileSync(join(SYSTEM, 'ekms'), 'utf8');
  const said = [...(/^(.*)\) user=ekms-token/m.exec(wrapper)?.[1] ?? '').matchAll(/"token ([a-z-]+)"/g)].map(([, name]) => name);
  const token = program({ root: '/' }, '0').commands.find((each) => each.name() === 'token');
  const theirs = token?.commands.filter(({ commands, options }) =>
    [options, ...commands.map((each) => each.options)].flat().some(({ long }) => long === '--settings'),
  );
  expect(said.toSorted()).toEqual(theirs?.map((each) => each.name()).toSorted());
});
