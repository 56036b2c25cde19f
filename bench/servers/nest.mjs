// Nest over Fastify, or, where a folder with express and @nestjs/platform-express is given, over Express. Arguments as bare.mjs, then that folder.
import 'reflect-metadata';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Controller, Get, Module, Req } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { KEEP_ALIVE, ready, record, tls } from './common.mjs';

class Keys {
  list(request) {
    return (request.raw ?? request).socket.getPeerX509Certificate() ? record() : null;
  }
}
// What TypeScript's decorators would write.
Get()(Keys.prototype, 'list', Object.getOwnPropertyDescriptor(Keys.prototype, 'list'));
Req()(Keys.prototype, 'list', 0);
Controller('v1/keys')(Keys);
class App {}
Module({ controllers: [Keys] })(App);

const elsewhere = process.argv[4];
const quiet = { logger: false };
if (elsewhere) {
  const require = createRequire(join(elsewhere, 'index.js'));
  const { ExpressAdapter } = await import(pathToFileURL(require.resolve('@nestjs/platform-express')).href);
  const app = await NestFactory.create(App, new ExpressAdapter(), quiet);
  app.getHttpAdapter().getInstance().disable('etag');
  await app.init();
  ready(createServer({ ...tls(), keepAliveTimeout: KEEP_ALIVE }, app.getHttpAdapter().getInstance()));
} else {
  const app = await NestFactory.create(App, new FastifyAdapter({ exposeHeadRoutes: false }), quiet);
  await app.init();
  const fastify = app.getHttpAdapter().getInstance();
  await fastify.ready();
  ready(createServer({ ...tls(), keepAliveTimeout: KEEP_ALIVE }, (request, response) => fastify.routing(request, response)));
}
