import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { peerOf, type RouteClass } from '../access/index.js';
import { Fault } from '../foundation/index.js';
import { answerProblem } from './problem-filter.js';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Scripts and styles of this listener alone, nothing inline, no markup made of text (Trusted Types), framed by nobody. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

interface Page {
  type: string;
  bytes: Buffer;
}

/** The files of `web/<class>/` and of `web/shared/`, by listener and path, read once at start: a request's path is looked up and never becomes a file name. */
export type Pages = ReadonlyMap<RouteClass, ReadonlyMap<string, Page>>;

/** @param root folder that holds `web/`. Of a class without a folder there are no pages. */
export function readPages(root: string, classes: readonly RouteClass[]): Pages {
  const shared = filesOf(join(root, 'web/shared'));
  // The verifier's page runs the very modules that `ekms audit verify` does: pure, so a browser takes them as they are.
  const codec = VERIFIER.map((name) => filesOf(join(root, 'dist/src/codec', name), `/verify/codec/${name}`)).flatMap((files) => [...files]);
  return new Map(
    classes.map((kind) => {
      const own = filesOf(join(root, 'web', kind));
      return [kind, own.size === 0 ? own : new Map([...shared, ...own, ...(own.has('/verify/') ? codec : [])])];
    }),
  );
}

const VERIFIER = ['merkle', 'audit-log'] as const;

function filesOf(folder: string, under = ''): Map<string, Page> {
  const pages = new Map<string, Page>();
  if (!existsSync(folder)) return pages;
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const type = TYPES[extname(entry.name)];
    if (!entry.isFile() || !type) continue;
    const file = join(entry.parentPath, entry.name);
    const path = under + file.slice(folder.length).replace(/\/index\.html$/, '/');
    pages.set(path, { type, bytes: readFileSync(file) });
  }
  return pages;
}

/** Serves each page at its own listener; at the others its path does not exist. */
export function servePages(app: FastifyInstance, pages: Pages, defect: (error: unknown, request: string) => void): void {
  const paths = new Set([...pages.values()].flatMap((of) => [...of.keys()]));
  for (const path of paths)
    app.get(path, (request, reply) => {
      const page = pages.get(peerOf(request.raw).kind)?.get(path);
      if (!page) return answerProblem(new Fault('not-found', 'route-unknown', 'there is nothing here'), request, reply, defect);
      return reply.headers({ 'content-security-policy': POLICY, 'content-type': page.type, 'cache-control': 'no-cache' }).send(page.bytes);
    });
}
