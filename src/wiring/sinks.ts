import { readFileSync } from 'node:fs';
import { cefForm, FileSink, jsonForm, type LineForm, type Origin, OtlpSink, type Sink, SyslogSink } from '../audit/index.js';
import type { SinkConfiguration } from '../configuration/index.js';

/** The sinks that ekms.yaml names. Their files are read now, so that a wrong path stops the start. */
export function sinksOf(configuration: Record<string, SinkConfiguration>, from: Omit<Origin, 'version'>): Map<string, Sink> {
  const origin = { ...from, version: process.env['npm_package_version'] ?? '0.1.0' };
  return new Map(Object.entries(configuration).map(([name, one]) => [name, sinkOf(one, origin)]));
}

function sinkOf(one: SinkConfiguration, origin: Origin): Sink {
  switch (one.to) {
    case 'syslog':
      return new SyslogSink({
        ...{ host: one.host, port: one.port, hostname: origin.host, form: formOf(one, origin) },
        tls: { ...read('ca', one.caFile), ...read('cert', one.certificateFile), ...read('key', one.keyFile) },
      });
    case 'file':
      return new FileSink({
        ...{ directory: one.directory, bytes: one.megabytes * 2 ** 20, keep: one.keep, form: formOf(one, origin) },
        extension: one.form === 'json' ? '.jsonl' : '.cef',
      });
    case 'otlp':
      return new OtlpSink({
        ...{ url: one.url, origin, personal: one.personal, ...read('ca', one.caFile) },
        ...(one.authorizationFile === undefined ? {} : { authorization: readFileSync(one.authorizationFile, 'utf8').trim() }),
      });
  }
}

const formOf = ({ form, personal }: { form: 'json' | 'cef'; personal: boolean }, origin: Origin): LineForm =>
  (form === 'json' ? jsonForm : cefForm)(origin, personal);

const read = <N extends string>(name: N, file: string | undefined): { [K in N]?: string } =>
  (file === undefined ? {} : { [name]: readFileSync(file, 'utf8') }) as { [K in N]?: string }; // its one member
