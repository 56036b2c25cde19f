import { z } from 'zod';

/** JSON Schema, of the parts that `z.toJSONSchema` writes. */
export interface JsonSchema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  format?: string;
  enum?: (string | number | boolean | null)[];
  const?: string | number | boolean | null;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
  items?: JsonSchema;
  anyOf?: JsonSchema[];
  allOf?: JsonSchema[];
  [keyword: string]: unknown;
}

/** Collects what shapes of the controllers become in the document: each shape that has an `id` is written once, under `components`, and referred to. */
export class Schemas {
  readonly components: Record<string, JsonSchema> = {};

  /** What a caller may send: strict where the parser is. */
  sent(shape: z.ZodType): JsonSchema {
    return this.#write(shape, 'input');
  }

  /** What a caller may get. More members may come later: readers ignore what they do not know. */
  answered(shape: z.ZodType): JsonSchema {
    return this.#write(shape, 'output');
  }

  #write(shape: z.ZodType, io: 'input' | 'output'): JsonSchema {
    const {
      $schema: _,
      $defs,
      ...schema
    } = z.toJSONSchema(shape, {
      io,
      override: ({ jsonSchema }) => {
        if (io === 'output' && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
        // zod says of each integer that it is a safe one: noise in a contract.
        if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      },
    });
    for (const [id, definition] of Object.entries($defs ?? {})) this.#keep(id, moved(definition as JsonSchema)); // zod's own type is wider, its output is not
    return moved(schema as JsonSchema); // as above
  }

  #keep(id: string, schema: JsonSchema): void {
    const known = this.components[id];
    if (known && JSON.stringify(known) !== JSON.stringify(schema)) throw new Error(`two shapes are called ${id}`);
    this.components[id] = schema;
  }
}

/** References from where zod puts definitions to where OpenAPI wants them. */
const moved = (schema: JsonSchema): JsonSchema =>
  JSON.parse(JSON.stringify(schema), (key, value: unknown) =>
    key === '$ref' && typeof value === 'string' ? value.replace('#/$defs/', '#/components/schemas/') : value,
  ) as JsonSchema; // what was a schema is one still
