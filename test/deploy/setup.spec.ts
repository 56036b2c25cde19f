import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';

const SETUP = readFileSync(resolve('deploy/setup.sh'), 'utf8');

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ekms-setup-'));
  for (const folder of ['bin', '.setup', 'node_modules/.bin']) mkdirSync(join(root, folder), { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) writeFileSync(join(root, file), '{}');
  program('node_modules/.bin/node', '');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function program(path: string, lines: string): void {
  writeFileSync(join(root, path), `#!/bin/sh\n${lines}\n`);
  chmodSync(join(root, path), 0o755);
}

/** Ends with what `modules` ends with; `npm` is the one of the test, which writes down what it was asked. */
function modules(npm: string, script = SETUP) {
  program('bin/npm', `echo "$*" >>"${root}/asked"\n${npm}`);
  writeFileSync(join(root, 'setup.sh'), script);
  const { status } = spawnSync('sh', ['-euc', `. "${root}/setup.sh"; modules`], {
    env: { PATH: `${join(root, 'bin')}:${process.env['PATH']}`, root },
  });
  return { status, asked: readFileSync(join(root, 'asked'), 'utf8').trim().split('\n'), done: existsSync(join(root, '.setup/modules')) };
}

const STEPS = ['ci --ignore-scripts', 'rebuild node', 'rebuild'];

describe('Node modules count as installed', () => {
  test('when each step of npm ended well, and are not installed again', () => {
    expect(modules('')).toEqual({ status: 0, asked: STEPS, done: true });
    expect(modules('').asked).toEqual(STEPS);
  });

  test.each(STEPS.map((step, index) => [step, index] as const))('not when `npm %s` fails, and no later step is tried', (step, index) => {
    expect(modules(`[ "$*" != "${step}" ]`)).toEqual({ status: 69, asked: STEPS.slice(0, index + 1), done: false });
  });

  test('not when npm was killed, though the files are again those of the last installation', () => {
    modules('');
    writeFileSync(join(root, 'package.json'), '{"later":true}');
    expect(modules('kill -KILL $PPID').done).toBe(false);
    writeFileSync(join(root, 'package.json'), '{}');
    expect(modules('').asked.slice(-3)).toEqual(STEPS);
  });

  test('where a failed step is passed over, were its steps not joined', () => {
    const apart = SETUP.replaceAll(/(ci --ignore-scripts|rebuild node) &&/g, '$1');
    expect(apart).not.toBe(SETUP);
    expect(modules('[ "$*" != "ci --ignore-scripts" ]', apart)).toMatchObject({ status: 0, done: true });
  });
});
