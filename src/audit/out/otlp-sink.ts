import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import type { LogEntry } from '../audit-reader.js';
import { type Origin, record } from './forms.js';
import { type Delivered, Sink } from './sink.js';

export interface OtlpSettings {
  url: string;
  /** Authorities that the collector's certificate may end in; without it, the system's. */
  ca?: string;
  /** Value of the Authorization header. */
  authorization?: string;
  origin: Origin;
  personal: boolean;
}

/** OpenTelemetry's log data model, "Severity Fields": INFO, WARN, ERROR. */
const SEVERITY: Record<string, readonly [number, string]> = { done: [9, 'INFO'], refused: [13, 'WARN'], failed: [17, 'ERROR'] };
/** Bytes of an answer that are read: a collector says little. */
const ANSWER_BYTES = 64 * 1024;

/** OTLP/HTTP with JSON (OTLP 1.x, "OTLP/HTTP Request" and "Response"); docs/adr/0039 says why no library. */
export class OtlpSink extends Sink {
  constructor(private readonly settings: OtlpSettings) {
    super();
  }

  override async deliver(entries: readonly LogEntry[], signal: AbortSignal): Promise<Delivered> {
    const { status, body } = await this.#post(JSON.stringify(otlpRequest(entries, this.settings)), signal);
    // Also what the specification calls not retryable is tried again: this log loses nothing quietly.
    if (status < 200 || status > 299) throw new Error(`the collector answered ${status}`);
    return { rejected: rejectedIn(body) };
  }

  #post(body: string, signal: AbortSignal): Promise<{ status: number; body: string }> {
    const { url, ca, authorization } = this.settings;
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...(authorization ? { authorization } : {}),
    };
    const request = new URL(url).protocol === 'https:' ? requestTls : requestPlain;
    return new Promise((resolve, reject) => {
      const sent = request(url, { method: 'POST', headers, signal, agent: false, ...(ca ? { ca } : {}) }, (response) => {
        let said = '';
        response.setEncoding('utf8').on('data', (piece: string) => {
          if (said.length < ANSWER_BYTES) said += piece;
        });
        response.once('error', reject);
        response.once('end', () => resolve({ status: response.statusCode ?? 0, body: said }));
      });
      sent.once('error', reject);
      sent.end(body);
    });
  }
}

/** An ExportLogsServiceRequest: lowerCamelCase names, 64-bit numbers as strings, enumerations as numbers (OTLP, "JSON Protobuf Encoding"). */
function otlpRequest(entries: readonly LogEntry[], { origin, personal }: Pick<OtlpSettings, 'origin' | 'personal'>) {
  return {
    resourceLogs: [
      {
        resource: { attributes: attributes({ 'service.name': 'ekms', 'service.version': origin.version, 'host.name': origin.host }) },
        scopeLogs: [{ scope: { name: origin.log }, logRecords: entries.map((entry) => logRecord(entry, origin, personal)) }],
      },
    ],
  };
}

function logRecord(entry: LogEntry, origin: Origin, personal: boolean) {
  const { action, outcome, reason, time, employee, device, key, subject, request, actor } = entry.body;
  const [severityNumber, severityText] = SEVERITY[outcome] ?? [5, 'DEBUG'];
  return {
    timeUnixNano: `${Date.parse(time)}000000`,
    severityNumber,
    severityText,
    eventName: `ekms.${action}`,
    body: { stringValue: JSON.stringify(record(origin, entry, personal)) },
    attributes: attributes({
      ...{ 'ekms.index': String(entry.index), 'ekms.action': action, 'ekms.outcome': outcome, 'ekms.reason': reason },
      ...{ 'ekms.actor.kind': actor.kind, 'ekms.actor.id': actor.id, 'ekms.employee': employee, 'ekms.device': device },
      ...{ 'ekms.key': key, 'ekms.subject': subject, 'ekms.request': request },
      ...(personal ? { 'client.address': entry.personal['network'] } : {}),
    }),
  };
}

const attributes = (given: Record<string, string | undefined>) =>
  Object.entries(given).flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: { stringValue: value } }]));

function rejectedIn(body: string): number {
  try {
    const answer = JSON.parse(body) as { partialSuccess?: { rejectedLogRecords?: string | number } } | null; // its one member is looked at
    const rejected = Number(answer?.partialSuccess?.rejectedLogRecords ?? 0);
    return Number.isSafeInteger(rejected) && rejected > 0 ? rejected : 0;
  } catch {
    return 0; // an empty body, or a proxy's: the status says that it was taken
  }
}
