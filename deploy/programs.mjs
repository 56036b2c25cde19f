// Joins what tsc built in DIST (dist/src, dist/client) into one file for each program, in DIST/programs: Node then reads a few files at a
// start instead of a thousand. Native modules, and what Nest asks for without need, stay outside. Run as `node deploy/programs.mjs [DIST]`.
import { rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
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
for (const part of ['shared', 'cache', 'mesign']) rmSync(join(dist, 'programs', part), { recursive: true, force: true });
await build({
  ...shared,
  entryPoints: Object.entries(programs).map(([out, source]) => ({ out: `${out}.program`, in: join(dist, source) })),
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
// What runs is a few lines that let V8 keep what it made of the code beside it, then import the program. Only whoever may write there may change the code itself;
// where nobody may, as under systemd, each start compiles anew.
const keeping = (from) => `enableCompileCache({ directory: \`${'$'}{import.meta.dirname}/${relative(dirname(from), 'cache')}\`, portable: true });`;
for (const out of Object.keys(programs))
  writeFileSync(
    join(dist, 'programs', `${out}.js`),
    `import { enableCompileCache } from 'node:module';\n${keeping(out)}\nawait import('./${basename(out)}.program.js');\n`,
  );

// The client starts anew for each document, so its start is what counts. As CommonJS in one file Node loads it in a third of the time that modules take; what a
// command does not need stays unread in it, since none of our modules does anything by being loaded. IMAP, larger than all the rest, is a file of its own.
const client = { ...shared, outdir: join(dist, 'programs/mesign'), outExtension: { '.js': '.cjs' }, format: 'cjs', keepNames: false, banner: {} };
rmSync(client.outdir, { recursive: true, force: true });
await build({
  ...client,
  entryPoints: { main: join(dist, 'client/src/main.js') },
  plugins: [
    { name: 'load-nothing-for-its-effects', setup: withoutEffects },
    { name: 'no-child-processes', setup: withoutChildren },
    { name: 'imap-apart', setup: ({ onResolve }) => onResolve({ filter: /^imapflow$/ }, () => ({ path: './imapflow.cjs', external: true })) },
  ],
});
await build({ ...client, stdin: { contents: "module.exports = require('imapflow');", resolveDir: dist, sourcefile: 'imapflow' }, outdir: undefined, outfile: join(client.outdir, 'imapflow.cjs') });
writeFileSync(
  join(dist, 'programs/mesign.js'),
  `import { createRequire, enableCompileCache } from 'node:module';
${keeping('mesign')}
createRequire(import.meta.url)('./mesign/main.cjs');
`,
);

function withoutEffects({ onResolve, resolve: resolved }) {
  const asked = Symbol('asked already');
  onResolve({ filter: /^\./ }, async ({ path, pluginData, ...rest }) => {
    if (pluginData === asked) return undefined;
    const found = await resolved(path, { ...rest, pluginData: asked });
    // A package speaks for itself, in its package.json.
    return found.path.includes('/node_modules/') ? found : { ...found, sideEffects: false };
  });
}

// Commander starts programs for commands that are programs of their own. There are none here, and loading that part of Node takes milliseconds of each start.
function withoutChildren({ onResolve, onLoad }) {
  onResolve({ filter: /^(node:)?child_process$/ }, ({ importer }) =>
    importer.includes('/node_modules/commander/') ? { path: 'child_process', namespace: 'none' } : undefined,
  );
  onLoad({ filter: /.*/, namespace: 'none' }, () => ({ contents: 'module.exports = {};' }));
}
