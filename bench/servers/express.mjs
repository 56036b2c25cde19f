// Express 5 with the same route. Arguments as bare.mjs, then the folder where express is installed: it is no dependency of ours.

import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { KEEP_ALIVE, ready, record, tls } from './common.mjs';

const express = createRequire(join(process.argv[4], 'index.js'))('express');
const app = express();
app.disable('x-powered-by');
app.disable('etag'); // Fastify makes none either
app.get('/v1/keys', (request, response) => {
  if (!request.socket.getPeerX509Certificate()) return response.status(401).end();
  return response.json(record());
});
ready(createServer({ ...tls(), keepAliveTimeout: KEEP_ALIVE }, app));
