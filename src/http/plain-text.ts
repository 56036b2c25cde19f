import type { FastifyInstance } from 'fastify';

/**
 * A body of `text/plain`, or of a sender that does not say what it is, stays bytes; for these routes only: a page of another origin can send such a body
 * anywhere without asking.
 */
export function acceptPlainText(app: FastifyInstance, paths: readonly string[]): void {
  app.addHook('onRequest', (request, _reply, done) => {
    if (paths.includes(request.routeOptions.url ?? '')) request.raw.headers['content-type'] ??= 'text/plain';
    done();
  });
  app.addContentTypeParser('text/plain', { parseAs: 'buffer' }, (request, body, done) => {
    if (paths.includes(request.routeOptions.url ?? '')) done(null, body);
    else done(Object.assign(new Error('this media type is not taken here'), { statusCode: 415 }));
  });
}
