// Lets a plain process run the TypeScript of our tests: Node strips the types by itself; of what a test imports, `./x.js` means the `x.ts`
// beside it, and what lies in src/ or client/src/ is taken as it was built.
import { registerHooks } from 'node:module';

const root = new URL('../../', import.meta.url).href;

registerHooks({
  resolve(specifier, context, next) {
    if (!specifier.startsWith('.') || !context.parentURL?.startsWith(`${root}test/`)) return next(specifier, context);
    const path = new URL(specifier, context.parentURL).href.slice(root.length);
    if (/^(src|client\/src)\//.test(path)) return next(`${root}dist/${path}`, context);
    return next(`${root}${path.replace(/\.js$/, '.ts')}`, context);
  },
});
