// Fastify as the appliance uses it, without Nest: the listener of node:https, the framework's router and serialiser. Arguments as bare.mjs.
import { createServer } from 'node:https';
import fastify from 'fastify';
import { KEEP_ALIVE, ready, record, tls } from './common.mjs';

const app = fastify({ exposeHeadRoutes: false });
app.get('/v1/keys', async (request, reply) => {
  if (!request.raw.socket.getPeerX509Certificate()) return reply.code(401).send();
  return record();
});
await app.ready();
ready(createServer({ ...tls(), keepAliveTimeout: KEEP_ALIVE }, (request, response) => app.routing(request, response)));
