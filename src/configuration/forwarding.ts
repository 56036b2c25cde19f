import { isIP } from 'node:net';
import { z } from 'zod';
import { isThisMachine, path } from './shapes.js';

const form = z.enum(['json', 'cef']).default('json');
/** Names and addresses leave the building's log only where the operator says so: what a SIEM has, erasing here does not erase. */
const personal = z.boolean().default(false);

const collector = z.string().refine((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return !!url && url.username === '' && (url.protocol === 'https:' || (url.protocol === 'http:' && isThisMachine(url.hostname)));
}, 'must be an address such as https://otel.corp.example:4318/v1/logs; http:// to this machine only');

const sink = z.discriminatedUnion('to', [
  z
    .strictObject({
      to: z.literal('syslog'),
      host: z
        .string()
        .refine((text) => isIP(text) !== 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text), 'must be a host name or an address'),
      /** RFC 5425 §4.1. */
      port: z.int().min(1).max(65_535).default(6514),
      form,
      personal,
      caFile: path.optional(),
      certificateFile: path.optional(),
      keyFile: path.optional(),
    })
    .refine(({ certificateFile, keyFile }) => (certificateFile === undefined) === (keyFile === undefined), {
      path: ['keyFile'],
      message: 'certificateFile and keyFile go together',
    }),
  z.strictObject({
    to: z.literal('file'),
    directory: path,
    form,
    personal,
    megabytes: z.int().min(1).max(4_096).default(64),
    keep: z.int().min(1).max(10_000).default(30),
  }),
  z.strictObject({ to: z.literal('otlp'), url: collector, personal, caFile: path.optional(), authorizationFile: path.optional() }),
]);

/** `forwarding` of ekms.yaml: sinks of the log, by name. */
export const forwardingShape = z.record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be a name in lower case'), sink).default({});
export type ForwardingConfiguration = z.output<typeof forwardingShape>;
export type SinkConfiguration = ForwardingConfiguration[string];

/** With every path made absolute. */
export function settledSinks(given: ForwardingConfiguration, absolute: (file: string) => string): ForwardingConfiguration {
  const paths = ['caFile', 'certificateFile', 'keyFile', 'directory', 'authorizationFile'];
  const settled = (one: SinkConfiguration) =>
    Object.fromEntries(
      Object.entries(one).map(([name, value]) => [name, paths.includes(name) ? absolute(String(value)) : value]),
    ) as SinkConfiguration; // the same members
  return Object.fromEntries(Object.entries(given).map(([name, one]) => [name, settled(one)]));
}
