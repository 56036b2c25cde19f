import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { transformSync } from '@swc/core';

/** One guard in a file of src/: its very text, and what stands there when somebody has taken it out. */
export interface Guard {
  file: string;
  guard: string;
  instead: string;
}

const root = resolve(__dirname, '../..');

/**
 * The module with its guard taken out, or several of its guards: its source with these places replaced, compiled as jest compiles it. What it imports is the real thing. A
 * guard that is not found exactly once is an error: the test would show nothing.
 */
export function guardOff<M>({ file, ...first }: Guard, ...more: Omit<Guard, 'file'>[]): M {
  const path = resolve(root, file);
  let source = readFileSync(path, 'utf8');
  for (const { guard, instead } of [first, ...more]) {
    const parts = source.split(guard);
    if (parts.length !== 2) throw new Error(`${file}: this guard stands there ${parts.length - 1} times: ${guard}`);
    source = parts.join(instead);
  }
  const { code } = transformSync(source, {
    filename: path,
    jsc: {
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true },
      target: 'es2022',
      keepClassNames: true,
    },
    module: { type: 'commonjs' },
  });
  const module = { exports: {} };
  const load = (name: string): unknown =>
    name.startsWith('.') ? require(`./${relative(__dirname, resolve(dirname(path), name.replace(/\.js$/, '')))}`) : require(name);
  new Function('module', 'exports', 'require', '__filename', '__dirname', code)(module, module.exports, load, path, dirname(path));
  return module.exports as M; // the caller knows which module it is
}
