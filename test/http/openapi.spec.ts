import 'reflect-metadata';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Controller, Get } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { appModule, CONTROLLERS } from '../../src/app.module.js';
import { parseConfiguration } from '../../src/configuration/index.js';
import { newId } from '../../src/foundation/index.js';
import { type OpenApiDocument, openApi, openApiTypes } from '../../src/http/index.js';
import { refusal } from '../support/wire.js';
import { newDeviceKeys, requestBody } from '../support/wire-device.js';
import { ContractCheck } from './contract-check.js';
import { Doors, LISTENERS, type Listener } from './doors.js';

const ROOT = resolve(__dirname, '../..');
const file = (name: string) => readFileSync(join(ROOT, name), 'utf8');
/** Device keys of RSA-3072 take their time on a busy machine. */
jest.setTimeout(60_000);

const check = new ContractCheck();
const { document } = check;
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
);
const listenersOf = ({ servers = document.servers }: { servers?: OpenApiDocument['servers'] }): string[] =>
  servers.map(({ description }) => description.replace(/^the (\w+) listener$/, '$1'));
/** A path that the route's parsers take. */
const concrete = (path: string) =>
  path
    .replace('/crl/{file}', '/crl/people.crl')
    .replace('/certs/{file}', '/certs/root.cer')
    .replace('{level}', '0')
    .replace('{name}', 'x001/000')
    .replace('{id}', newId())
    .replace('{token}', 'A'.repeat(22));

describe('what is committed is what the controllers say', () => {
  test('docs/openapi.json', () => expect(JSON.parse(file('docs/openapi.json'))).toEqual(document));
  test("the client's types", () => expect(file('client/src/sdk/contract.ts')).toBe(openApiTypes(document)));
});

test('the document is OpenAPI 3.1 by the schema of its authors', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  formats.default(ajv);
  const validate = ajv.compile(JSON.parse(file('test/vectors/openapi/schema-3.1.json')));
  expect({ valid: validate(document), errors: validate.errors }).toEqual({ valid: true, errors: null });
});

test('names of operations are unique and every reference leads somewhere', () => {
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(ids.length);
  for (const [, name = ''] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
    expect(Object.keys(document.components.schemas)).toContain(name);
});

test('the ports of the document are those of a configuration that says nothing', () => {
  const { listen } = parseConfiguration('', '/nowhere');
  for (const { description, variables } of operations.flatMap(({ operation }) => operation.servers ?? document.servers)) {
    const kind = description.split(' ')[1] as Listener; // "the client listener"
    expect(variables['port']?.default).toBe(String(listen[kind].port));
  }
});

test('a route without a contract stops the start', () => {
  @Controller('undescribed')
  class Undescribed {
    @Get()
    read() {
      return {};
    }
  }
  expect(() => openApi([...CONTROLLERS, Undescribed])).toThrow('Undescribed.read is a route without a contract');
});

test('no problem code is invented: each is thrown somewhere', () => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.ts') && name !== 'access/contract.ts',
  );
  const text = sources.map((name) => file(join('src', name))).join('\n');
  const codes = operations.flatMap(({ operation }) =>
    Object.values(operation.responses).flatMap(
      ({ content }) => content?.['application/problem+json']?.schema?.allOf?.[1]?.properties?.['code']?.enum ?? [],
    ),
  );
  const isThrown = (code: string) =>
    new RegExp(
      `((?:Fault|super)\\(\\s*'[a-z-]+',\\s*|HsmError\\(|forbidden\\(|code: |\\['(malformed|not-found|too-large)', |\\?\\? )'${code}'`,
    ).test(text);
  expect([...new Set(codes)].filter((code) => !isThrown(String(code)))).toEqual([]);
});

describe('against an appliance', () => {
  let doors: Doors;
  beforeAll(async () => {
    doors = await Doors.open(check);
  });
  afterAll(() => doors.close());

  test('the routes of the application are the routes of the document, none more, none less', async () => {
    const adapter = new FastifyAdapter({ exposeHeadRoutes: false });
    const routes: string[] = [];
    adapter.getInstance().addHook('onRoute', ({ method, url }) => {
      for (const one of [method].flat()) routes.push(`${one} ${url.replace(/:(\w+)/g, '{$1}').replace(/\*$/, '{name}')}`);
    });
    const module = appModule(doors.house.house, () => {});
    const app = await NestFactory.create<NestFastifyApplication>(module, adapter, { logger: false, abortOnError: false });
    await app.init();
    await app.close();
    expect(new Set(routes)).toEqual(new Set(operations.map(({ method, path }) => `${method} ${path}`)));
  });

  test.each(LISTENERS)('GET /api/openapi.json at the %s listener is the document', async (listener) => {
    const reply = await doors.anybody(listener, { path: '/api/openapi.json' });
    expect(reply.json).toEqual(document);
  });

  test('each route is at the listeners that the document names, and nowhere else', async () => {
    for (const { method, path, operation } of operations)
      for (const listener of LISTENERS) {
        const reply = await doors.ask(listener, { method, path: concrete(path), ...(method === 'POST' ? { body: '{}' } : {}) });
        const there = refusal(reply) !== '404 route-unknown';
        expect({ route: `${method} ${path}`, listener, there }).toEqual({
          route: `${method} ${path}`,
          listener,
          there: listenersOf(operation).includes(listener),
        });
      }
  });

  test('who may ask is as the document says: each route refuses whoever lacks its proof, by name', async () => {
    for (const { method, path, operation } of operations) {
      const listener = listenersOf(operation)[0] as Listener; // one of five, as the test before shows
      const reply = await doors.anybody(listener, { method, path: concrete(path), ...(method === 'POST' ? { body: '{}' } : {}) });
      const [proof] = operation.security.flatMap((one) => Object.keys(one));
      const session = '401 session-missing';
      const refusals: Record<string, string> = { device: '401 device-certificate-missing', app: '401 app-signature-malformed' };
      const expected = proof === undefined ? undefined : { ...refusals, administrator: session, staff: session }[proof];
      if (expected)
        expect({ route: `${method} ${path}`, refusal: refusal(reply) }).toEqual({ route: `${method} ${path}`, refusal: expected });
      else expect(reply.status).not.toBe(401);
    }
  });

  test('the shape of a request is the one that parses: what it refuses is refused', async () => {
    const good = requestBody('zoe@corp.example', await newDeviceKeys());
    expect(check.is('EnrolmentRequest', good)).toBe(true);
    expect((await doors.app('/v1/enrolments', good)).status).toBe(201);
    for (const bad of [
      { ...good, more: 1 },
      { ...good, csr: undefined },
      { ...good, platform: 'Not A Platform' },
      { ...good, address: 'x'.repeat(321) },
      { ...good, name: 'two\nlines' },
    ]) {
      expect(check.is('EnrolmentRequest', JSON.parse(JSON.stringify(bad)))).toBe(false);
      expect(refusal(await doors.app('/v1/enrolments', bad))).toBe('400 body-malformed');
    }
  });
});
