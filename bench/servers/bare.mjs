// node:https and nothing else: mutual TLS 1.3, every request answered with the same bytes. Arguments: folder of TLS files, bytes of the body.
import { createServer } from 'node:https';
import { KEEP_ALIVE, ready, record, tls } from './common.mjs';

const bytes = Buffer.from(JSON.stringify(record()));
ready(
  createServer({ ...tls(), keepAliveTimeout: KEEP_ALIVE }, (request, response) => {
    if (!request.socket.getPeerX509Certificate()) return response.writeHead(401).end();
    response.writeHead(200, { 'content-type': 'application/json; charset=utf-8', 'content-length': bytes.length });
    return response.end(bytes);
  }),
);
