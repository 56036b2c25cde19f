// Joins what tsc built in DIST (dist/src, dist/client) into one file for each program, in DIST/programs: Node then reads a few files at a
// start instead of a thousand. Native modules, and what Nest asks for without need, stay outside. Run as `node deploy/programs.mjs [DIST]`.
import { dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';

const dist = resolve(process.argv[2] ?? 'dist');
const programs = {
  main: 'src/main.js',
  mesign: 'client/src/main.js',
  'demo/main': 'src/demo/main.js',
  'pdf/worker': 'src/pdf/worker.js',
  'tokens/process/main': 'src/tokens/process/main.js',
  'tokens/process/worker': 'src/tokens/process/worker.js',
};
await build({
  entryPoints: Object.entries(programs).map(([out, source]) => ({ out, in: join(dist, source) })),
  outdir: join(dist, 'programs'),
  absWorkingDir: dirname(dist), // names in the output are told from here
  bundle: true,
  platform: 'node',
  format: 'esm',
  // Names of classes are read at run time: Nest's injection, migrations, errors.
  keepNames: true,
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
  // What CommonJS modules inside expect to find.
  banner: {
    js: [
      "import { createRequire as _createRequire } from 'node:module';",
      'const require = _createRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
    ].join('\n'),
  },
  logLevel: 'error',
});
