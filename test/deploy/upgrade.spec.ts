import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

const INSTALL = readFileSync(resolve('deploy/install'), 'utf8');
const PARTS = INSTALL.slice(0, INSTALL.indexOf('\nif [ -n "$check" ]'));

let folder: string;
const at = (name: string) => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-upgrade-'));
  for (const name of ['base/versions/1.0', 'base/versions/2.0', 'home']) mkdirSync(at(name), { recursive: true });
  symlinkSync('versions/1.0', at('base/current'));
  writeFileSync(at('home/ekms.db'), 'schema 1');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/**
 * The installer's own parts with this machine's doors replaced: services are up and enabled as files say, the schema is the database's text, and
 * version 2.0 writes its own.
 */
function install(version: '1.0' | '2.0', extra = '', parts = PARTS) {
  const doors = `
    base=${at('base')} home=${at('home')} mark=$base/upgrading new=${version} ready_seconds=1 database_kept=''
    install() { for last; do :; done; mkdir -p "$last"; }
    systemctl() {
      case "$1" in
        stop) rm -f ${at('up')} ;;
        start) touch ${at('up')} ;;
        is-active) [ -e ${at('up')} ] ;;
      esac
    }
    place_system_files() { :; }
    firewall() { :; }
    await_ready() { [ -e ${at('up')} ] && [ ! -e ${at('broken')} ]; }
    field() { grep "^$1=" | cut -d= -f2-; }
    schema() { cat $home/ekms.db; }
    ekms() {
      case "$*" in
        'database state') printf 'file=%s\\nmigrations=%s\\nentries=7\\n' "$home/ekms.db" "$(schema)" ;;
        'database migrate') [ -e $home/ekms.db ] || exit 9; [ "$(readlink $base/current)" = versions/1.0 ] || echo 'schema 2' >$home/ekms.db ;;
      esac
    }
    ${extra}
    if cut_off; then go_on; elif [ "$(readlink "$base/current")" != "versions/$new" ]; then upgrade; else serve; fi`;
  const { status, signal, stderr } = spawnSync('sh', ['-c', `${parts}\n${doors}`], { encoding: 'utf8' });
  return { status, signal, said: stderr };
}

const now = () => ({
  version: readlinkSync(at('base/current')),
  schema: existsSync(at('home/ekms.db')) ? readFileSync(at('home/ekms.db'), 'utf8').trim() : 'none',
  up: existsSync(at('up')),
  former: existsSync(at('base/former')) ? readFileSync(at('base/former'), 'utf8').trim() : undefined,
  underWay: existsSync(at('base/upgrading')),
});
const UPGRADED = { version: 'versions/2.0', schema: 'schema 2', up: true, former: '1.0', underWay: false };
const AS_BEFORE = { version: 'versions/1.0', schema: 'schema 1', up: true, former: undefined, underWay: false };
/** The installer dies where it would call that part, as in a power cut. */
const killedAt = (name: string) => `${name}() { kill -KILL $$; }`;

describe('an upgrade', () => {
  test('leaves the new version, its schema and the way back', () => {
    expect(install('2.0').status).toBe(0);
    expect(now()).toEqual(UPGRADED);
  });

  test('whose version does not become ready leaves everything as it was', () => {
    const broken = 'await_ready() { [ "$(readlink $base/current)" = versions/1.0 ]; }';
    expect(install('2.0', broken)).toMatchObject({ status: 1, said: expect.stringContaining('put the database back') });
    expect(now()).toEqual(AS_BEFORE);
  });

  test('that has no room for the copy of the database changes nothing, and serves again', () => {
    expect(install('2.0', 'cp() { return 1; }')).toMatchObject({ status: 1, said: expect.stringContaining('nothing was changed') });
    expect(now()).toEqual(AS_BEFORE);
  });

  test.each([
    ['before the database is copied', killedAt('keep_database')],
    ['before the version is changed', killedAt('point_to')],
    ['before the schema is changed', killedAt('place_system_files')],
    ['before it serves', killedAt('serve')],
  ])('cut off %s is made by the next run', (_when, cut) => {
    expect(install('2.0', cut).signal).toBe('SIGKILL');
    expect(now().up).toBe(false);
    expect(install('2.0').status).toBe(0);
    expect(now()).toEqual(UPGRADED);
  });

  test('cut off, and then not ready, is taken back by the next run', () => {
    install('2.0', killedAt('serve'));
    expect(install('2.0', 'await_ready() { [ "$(readlink $base/current)" = versions/1.0 ]; }').status).toBe(1);
    expect(now()).toEqual(AS_BEFORE);
  });

  test('cut off while the database is put back is taken back by the next run, which makes no new database', () => {
    const unready = 'await_ready() { [ "$(readlink $base/current)" = versions/1.0 ]; }';
    expect(install('2.0', `${unready}\ncp() { case "$*" in */home/) kill -KILL $$ ;; esac; command cp "$@"; }`).signal).toBe('SIGKILL');
    expect(now().schema).toBe('none');
    expect(install('2.0')).toMatchObject({ status: 1, said: expect.stringContaining('put the database back') });
    expect(now()).toEqual(AS_BEFORE);
  });

  test('that cannot go back for want of room goes back with the next run', () => {
    const unready = 'await_ready() { [ "$(readlink $base/current)" = versions/1.0 ]; }';
    const full = `${unready}\npoint_to() { [ "$1" = 2.0 ] && ln -sfn "versions/$1" $base/current; }`;
    expect(install('2.0', full)).toMatchObject({ status: 1, said: expect.stringContaining('make room') });
    expect(now()).toMatchObject({ version: 'versions/2.0', underWay: true });
    expect(install('2.0', unready).status).toBe(1);
    expect(now()).toEqual(AS_BEFORE);
  });

  test('cut off is not gone over by another version', () => {
    install('2.0', killedAt('serve'));
    mkdirSync(at('base/versions/1.0'), { recursive: true });
    expect(install('1.0')).toMatchObject({ status: 1, said: expect.stringContaining('install --rollback') });
    expect(now()).toMatchObject({ version: 'versions/2.0', schema: 'schema 2', underWay: true });
  });

  test('cut off would be taken for an installation without a way back, were its mark not looked at', () => {
    install('2.0', killedAt('place_system_files'));
    expect(install('2.0', 'cut_off() { return 1; }').status).toBe(0);
    expect(now()).toMatchObject({ schema: 'schema 1', former: undefined });
  });
});

test('a service that cannot be enabled is no service that serves', () => {
  const refuse = 'systemctl() { case "$1" in is-enabled | enable) return 1 ;; esac; }\nawait_ready() { :; }\nnew=1.0';
  expect(install('1.0', refuse).status).toBe(1);
});

describe('the ceremony of an installation', () => {
  /** As `ekms ceremony` ends, over a plan that an earlier try left. */
  const planned = (status: number, words: string, shares = at('medium/shares')) => {
    writeFileSync(at('home/ceremony.json'), '{}');
    const { said, ...end } = install(
      '1.0',
      `custodians=--custodian; shares=${shares}; threshold=2; organisation=''
       ekms() { echo '${words}' >&2; return ${status}; }
       plan_ceremony; exit 0`,
    );
    return { ...end, said };
  };
  beforeEach(() => mkdirSync(at('medium')));

  test('goes on where only the token is missing, and passes on what was said', () => {
    expect(planned(1, 'ekms: no token process answers (token-unavailable)')).toMatchObject({
      status: 0,
      said: expect.stringContaining('no token'),
    });
    expect(planned(0, 'done').status).toBe(0);
  });

  test.each([
    [1, 'ekms: another ceremony was begun here (ceremony-begun)'],
    [1, 'ekms: carl.pem: cannot be read (custodian-malformed)'],
    [2, 'error: unknown option'],
    [70, 'ekms: this is a defect'],
  ])('goes on with nobody’s earlier plan where its own was refused: %i, %s', (status, words) => {
    expect(planned(status, words)).toMatchObject({ status: 1, said: expect.stringContaining(words) });
  });

  test('makes no folder where the medium is not mounted', () => {
    expect(planned(0, '', at('absent/shares'))).toMatchObject({ status: 1, said: expect.stringContaining('mounted') });
    expect(existsSync(at('absent'))).toBe(false);
  });
});
