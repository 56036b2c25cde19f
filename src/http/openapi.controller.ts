import { Controller, Get, Header, Inject } from '@nestjs/common';
import { z } from 'zod';
import { Contract, On } from '../access/index.js';
import type { OpenApiDocument } from './openapi.js';

const openApiDocument = z
  .object({
    openapi: z.string(),
    info: z.looseObject({}),
    servers: z.array(z.looseObject({})),
    paths: z.looseObject({}),
    components: z.looseObject({}),
  })
  .meta({ id: 'OpenApiDocument', description: 'OpenAPI 3.1' });

/** The key under which the module gives its controller what makes the document: a tenth of a second of each start, for what is seldom asked. */
export const OPEN_API = Symbol('OpenApiDocument');

@On('client', 'administration', 'staff', 'public', 'operation')
@Controller('api')
export class OpenApiController {
  #document: OpenApiDocument | undefined;

  constructor(@Inject(OPEN_API) private readonly make: () => OpenApiDocument) {}

  @Get('openapi.json')
  @Header('cache-control', 'no-cache')
  @Contract({
    id: 'getContract',
    summary: 'This document',
    answers: { 200: { description: 'OpenAPI 3.1', json: openApiDocument } },
  })
  read(): OpenApiDocument {
    this.#document ??= this.make();
    return this.#document;
  }
}
