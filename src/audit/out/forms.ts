import { isIP } from 'node:net';
import type { LogEntry } from '../audit-reader.js';
import type { LineForm } from './sink.js';

/** What every form says of where an entry comes from. */
export interface Origin {
  /** The log's name, as its checkpoints have it: `<publicName>/v1/audit`. */
  log: string;
  host: string;
  version: string;
}

/** docs/formats/forwarding.md. `personal` is there only where the sink may have it. */
export const record = ({ log }: Origin, { index, leaf, body, personal }: LogEntry, withPersonal: boolean) => ({
  log,
  index,
  leaf: leaf.toString('base64url'),
  entry: body,
  ...(withPersonal && Object.keys(personal).length > 0 ? { personal } : {}),
});

export const jsonForm =
  (origin: Origin, withPersonal: boolean): LineForm =>
  (entry) =>
    JSON.stringify(record(origin, entry, withPersonal));

const CEF_SEVERITY: Record<string, number> = { done: 3, refused: 6, failed: 8 };

/** ArcSight Common Event Format, version 0, keys of its dictionary where it has them. */
export const cefForm =
  ({ log, host, version }: Origin, withPersonal: boolean): LineForm =>
  ({ index, leaf, body, personal }) => {
    const { action, outcome, actor } = body;
    const known = withPersonal ? personal : {};
    const network = known['network'];
    const fields: Record<string, string | number | undefined> = {
      ...{ rt: Date.parse(body.time), externalId: index, dvchost: host, outcome, reason: body.reason },
      ...{ suid: actor.id, sproc: actor.kind, duid: body.employee, duser: known['address'] ?? known['recipient'] },
      ...(network === undefined
        ? {}
        : isIP(network) === 6
          ? { c6a2: network, c6a2Label: 'Source IPv6 Address' }
          : isIP(network) === 4
            ? { src: network }
            : {}),
      ...labelled('cs1', 'key', body.key),
      ...labelled('cs2', 'device', body.device),
      ...labelled('cs3', 'subject', body.subject),
      ...labelled('cs4', 'request', body.request),
      ...labelled('cs5', 'leaf', leaf.toString('base64url')),
      ...labelled('cs6', 'facts', body.facts && JSON.stringify(body.facts)),
      ...labelled('flexString1', 'log', log),
      ...labelled('flexString2', 'use', body.use),
    };
    const extension = Object.entries(fields).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${escaped(String(value), /[\\=]/g)}`],
    );
    const header = ['CEF:0', 'EKMS', 'EKMS', version, action, `${action} ${outcome}`].map((part) => escaped(part, /[\\|]/g));
    return `${[...header, CEF_SEVERITY[outcome] ?? 5].join('|')}|${extension.join(' ')}`;
  };

const labelled = (name: string, label: string, value: string | undefined) =>
  value === undefined ? {} : { [name]: value, [`${name}Label`]: label };

const escaped = (text: string, what: RegExp): string =>
  text
    .replace(what, (character) => `\\${character}`)
    .replaceAll('\r', '\\r')
    .replaceAll('\n', '\\n');
