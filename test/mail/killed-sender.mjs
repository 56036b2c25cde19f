// A process that sends what is queued in a database, to be killed. Loads our TypeScript as it is, by the compiler that Jest uses.
// Arguments: folder of the database, port of the mail server, PEM file of its root.
import { existsSync, readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { transformSync } from '@swc/core';

registerHooks({
  resolve(specifier, context, next) {
    if (specifier.startsWith('.') && context.parentURL?.endsWith('.ts')) {
      const url = new URL(specifier.replace(/\.js$/, '.ts'), context.parentURL);
      if (existsSync(url)) return { url: url.href, format: 'module', shortCircuit: true };
    }
    return next(specifier, context);
  },
  load(url, context, next) {
    if (!url.endsWith('.ts')) return next(url, context);
    const jsc = { parser: { syntax: 'typescript', decorators: true }, target: 'es2022' };
    return {
      format: 'module',
      source: transformSync(readFileSync(fileURLToPath(url), 'utf8'), { jsc, module: { type: 'es6' } }).code,
      shortCircuit: true,
    };
  },
});

const [home, port, ca] = process.argv.slice(2);
const { openStorage } = await import(new URL('../../src/storage/index.ts', import.meta.url));
const { SmtpTransport } = await import(new URL('../../src/mail/index.ts', import.meta.url));
const { mailHouse } = await import(new URL('./mail-house.ts', import.meta.url));
const storage = await openStorage({ url: 'sqlite:ekms.db', home });
const transport = new SmtpTransport({ host: 'localhost', port: Number(port), tls: 'starttls', ca: readFileSync(ca, 'utf8') });
mailHouse(storage, transport, { certificates: [], sign: async () => Buffer.alloc(64) }).queue.start();
