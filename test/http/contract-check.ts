import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { CONTROLLERS } from '../../src/app.module.js';
import { type OpenApiDocument, openApi } from '../../src/http/index.js';

export interface Exchange {
  method: string;
  /** With its query. */
  path: string;
  status: number;
  header: (name: string) => string | undefined;
  body: Buffer;
}

type Schema = Record<string, unknown>;

/** Holds what the appliance really answers against what its document promises, by an independent validator of JSON Schema 2020-12. */
export class ContractCheck {
  readonly document: OpenApiDocument = openApi(CONTROLLERS);
  /** `METHOD path status` of all that was seen and fits. */
  readonly seen = new Set<string>();
  readonly #ajv = new Ajv2020({ strict: false });
  readonly #compiled = new Map<string, ValidateFunction>();

  constructor() {
    formats.default(this.#ajv);
    // A promise allows more members to come; for the code of today a member that is not described is an error.
    this.#ajv.addSchema({ $id: 'document', components: { schemas: closed(this.document.components.schemas) } });
  }

  /** What is wrong with an answer, in words; nothing when it is as promised. */
  faults({ method, path, status, header, body }: Exchange): string[] {
    const template = this.templateOf(path);
    const operation = template === undefined ? undefined : this.document.paths[template]?.[method.toLowerCase()];
    const promised = operation?.responses[status];
    if (!template || !promised) return [`${method} ${path} answers ${status}, which is not in the document`];
    this.seen.add(`${method} ${template} ${status}`);
    const type = header('content-type')?.split(';')[0];
    const content = type ? promised.content?.[type] : undefined;
    if (!promised.content) return body.length === 0 ? [] : ['a body where none is promised'];
    if (!content) return [`media type ${type} is not promised`];
    if (!content.schema) return [];
    const validate = this.#validator(`${method} ${template} ${status}`, content.schema);
    return validate(JSON.parse(body.toString('utf8')))
      ? []
      : (validate.errors ?? []).map(({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`);
  }

  /** Answers that the document promises for these paths, refusals aside, and that were not seen. */
  unseen(isOurs: (path: string) => boolean): string[] {
    return Object.entries(this.document.paths)
      .filter(([path]) => isOurs(path))
      .flatMap(([path, methods]) =>
        Object.entries(methods).flatMap(([method, { responses }]) =>
          Object.keys(responses)
            .filter((status) => status < '300')
            .map((status) => `${method.toUpperCase()} ${path} ${status}`),
        ),
      )
      .filter((one) => !this.seen.has(one));
  }

  /** The document's name of a path; fixed segments win over `{…}`. A last `{name}` may hold slashes. */
  templateOf(path: string): string | undefined {
    const plain = path.split('?')[0] ?? '';
    const fits = (template: string) =>
      new RegExp(
        `^${template
          .replaceAll('.', '\\.')
          .replace(/\{name\}$/, '.+')
          .replace(/\{[^}]+\}/g, '[^/]+')}$`,
      ).test(plain);
    return Object.keys(this.document.paths)
      .filter(fits)
      .toSorted((a, b) => a.split('{').length - b.split('{').length)[0];
  }

  /** Whether a value is as one of the document's named shapes. */
  is(shape: string, value: unknown): boolean {
    return this.#validator(shape, { $ref: `#/components/schemas/${shape}` })(value);
  }

  #validator(name: string, schema: object): ValidateFunction {
    const known = this.#compiled.get(name) ?? this.#ajv.compile(relocated(closed(schema)));
    this.#compiled.set(name, known);
    return known;
  }
}

/** Every object without a word about further members gets `additionalProperties: false`, but for the halves of an allOf. */
function closed<T>(schema: T, part = false): T {
  if (Array.isArray(schema)) return schema.map((one) => closed(one, part)) as T; // an array stays one
  if (typeof schema !== 'object' || schema === null) return schema;
  const entries = Object.entries(schema as Schema).map(([key, value]) => [key, closed(value, key === 'allOf' || key === 'code')]);
  const isOpen =
    !part &&
    'properties' in schema &&
    !('additionalProperties' in schema) &&
    typeof (schema as Schema)['properties'] === 'object' &&
    (schema as Schema)['type'] === 'object';
  return Object.fromEntries(isOpen ? [...entries, ['additionalProperties', false]] : entries) as T; // the same schema, and closed
}

const relocated = (schema: object): object =>
  JSON.parse(JSON.stringify(schema), (key, value: unknown) =>
    key === '$ref' && typeof value === 'string' ? value.replace(/^#/, 'document#') : value,
  );
