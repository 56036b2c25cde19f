import type { OpenApiDocument, Operation } from './openapi.js';
import type { JsonSchema } from './openapi-schemas.js';

/** TypeScript for clients: an interface per named shape, every problem code, and `Routes`, which says of each route what it takes and what it answers. */
export function openApiTypes({ paths, components }: OpenApiDocument): string {
  const shapes = Object.entries(components.schemas).map(([name, schema]) => `${comment(schema)}export ${declaration(name, schema)}`);
  const routes = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(
      ([method, operation]) => `  /** ${operation.summary} */\n  '${method.toUpperCase()} ${path}': ${route(operation)};`,
    ),
  );
  const codes = Object.values(paths).flatMap((operations) => Object.values(operations).flatMap(codesOf));
  return [
    '// Generated from the OpenAPI document by deploy/generate.sh: do not edit.\n',
    ...shapes,
    `/** Every code that a refusal may have. */\nexport type ProblemCode =\n${[...new Set(codes)]
      .toSorted()
      .map((code) => `  | ${literal(code)}`)
      .join('\n')};\n`,
    `export interface Routes {\n${routes.join('\n')}\n}\n`,
  ].join('\n');
}

const declaration = (name: string, schema: JsonSchema): string =>
  schema.type === 'object' ? `interface ${name} ${typeOf(schema)}\n` : `type ${name} = ${typeOf(schema)};\n`;

function route({ requestBody, responses }: Operation): string {
  const body = requestBody?.content['application/json']?.schema;
  // What is not JSON is bytes or a page, and no matter of types.
  const answers = Object.entries(responses)
    .filter(([status]) => status.startsWith('2'))
    .map(([status, { content }]) => `${status}: ${content ? typeOf(content['application/json']?.schema ?? {}) : 'undefined'}`);
  return `{ body: ${body ? typeOf(body) : 'undefined'}; answers: { ${answers.join('; ')} } }`;
}

const codesOf = ({ responses }: Operation) =>
  Object.values(responses).flatMap(
    ({ content }) => content?.['application/problem+json']?.schema?.allOf?.[1]?.properties?.['code']?.enum ?? [],
  );

function typeOf(schema: JsonSchema, indent = ''): string {
  if (schema.$ref) return schema.$ref.replace('#/components/schemas/', '');
  if (schema.enum) return schema.enum.map(literal).join(' | ');
  if (schema.const !== undefined) return literal(schema.const);
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(one, indent)).join(' | ');
  if (Array.isArray(schema.type)) return schema.type.map((type) => typeOf({ ...schema, type }, indent)).join(' | ');
  switch (schema.type) {
    case 'object':
      return Object.keys(schema.properties ?? {}).length > 0 ? `{\n${members(schema, `${indent}  `)}${indent}}` : 'Record<string, unknown>';
    case 'array':
      return `${grouped(typeOf(schema.items ?? {}, indent))}[]`;
    case 'integer':
      return 'number';
    case 'string':
    case 'number':
    case 'boolean':
    case 'null':
      return schema.type;
    default:
      return 'unknown';
  }
}

const members = ({ properties = {}, required = [] }: JsonSchema, indent: string): string =>
  Object.entries(properties)
    .map(
      ([name, schema]) => `${comment(schema, indent)}${indent}${name}${required.includes(name) ? '' : '?'}: ${typeOf(schema, indent)};\n`,
    )
    .join('');

const comment = ({ description, contentEncoding }: JsonSchema, indent = ''): string => {
  const says = [contentEncoding, description].filter((part) => typeof part === 'string').join(': ');
  return says ? `${indent}/** ${says} */\n` : '';
};

const grouped = (type: string): string => (type.includes(' | ') ? `(${type})` : type);
const literal = (value: unknown): string => (typeof value === 'string' ? `'${value}'` : String(value));
