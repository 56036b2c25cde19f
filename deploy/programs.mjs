// Joins what tsc built in DIST (dist/src, dist/client) into one file for each program, in DIST/programs: Node then reads a few files at a
// start instead of a thousand. Native modules, and what Nest asks for without need, stay outside. Run as `node deploy/programs.mjs [DIST]`.
import { rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';

const dist = resolve(process.argv[2] ?? 'dist');
const programs = {
  main: 'src/main.js',
  'demo/main': 'src/demo/main.js',
  'audit/search-worker': 'src/audit/search/search-worker.js',
  'pdf/worker': 'src/pdf/worker.js',
  'tokens/process/main': 'src/tokens/process/main.js',
  'tokens/process/worker': 'src/tokens/process/worker.js',
};
const shared = {
  outdir: join(dist, 'programs'),
  absWorkingDir: dirname(dist), // names in the output are told from here
  bundle: true,
  platform: 'node',
  format: 'esm',
  // Names of classes are read at run time: Nest's injection, migrations, errors.
  keepNames: true,
  // What CommonJS modules inside expect to find.
  banner: {
    js: [
      "import { createRequire as _createRequire } from 'node:module';",
      'const require = _createRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
    ].join('\n'),
  },
  logLevel: 'error',
};
for (const part of ['shared', 'mesign']) rmSync(join(dist, 'programs', part), { recursive: true, force: true });
await build({
  ...shared,
  entryPoints: Object.entries(programs).map(([out, source]) => ({ out, in: join(dist, source) })),
  // A command that asks the running appliance loads a tenth of what serving takes. (What is loaded by import() must be a module of ours: a CommonJS package
  // alone in its file has lost its names.)
  chunkNames: 'shared/[name]-[hash]',
  splitting: true,
  external: [
    'better-sqlite3',
    'pkcs11js',
    'pg-native',
    '@nestjs/platform-express',
    '@nestjs/websockets*',
    '@nestjs/microservices*',
    'class-validator',
    'class-transformer*',
    '@fastify/static',
    '@fastify/view',
    '@fastify/middie',
  ],
});

// A command of the client loads what it needs and no more: a file for each, beside what they share. None of its modules does anything by being loaded.
await build({
  ...shared,
  entryPoints: { mesign: join(dist, 'client/src/main.js') },
  chunkNames: 'mesign/[name]-[hash]',
  splitting: true,
  plugins: [{ name: 'load-nothing-for-its-effects', setup: withoutEffects }],
});

function withoutEffects({ onResolve, resolve: resolved }) {
  const asked = Symbol('asked already');
  onResolve({ filter: /^\./ }, async ({ path, pluginData, ...rest }) => {
    if (pluginData === asked) return undefined;
    const found = await resolved(path, { ...rest, pluginData: asked });
    // A package speaks for itself, in its package.json.
    return found.path.includes('/node_modules/') ? found : { ...found, sideEffects: false };
  });
}
