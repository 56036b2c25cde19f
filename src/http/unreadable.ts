import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { newId } from '../foundation/index.js';
import { problem } from './problem-filter.js';

/** What Node refuses before there is a request, by the code of its error. Everything else is no HTTP. */
const BY_CODE: Record<string, [number, string, string]> = {
  HPE_HEADER_OVERFLOW: [431, 'header-too-large', 'the header is too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'body-too-large', 'the body is too large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'request-timeout', 'the request did not arrive in time'],
};

/** Answers bytes that are no request, and ends the connection; only the latter where they come behind a whole request whose answer is under way. */
export function refuseBytes(error: NodeJS.ErrnoException, socket: Duplex, current: ServerResponse | undefined): void {
  const isAnswering = current && !current.writableFinished && (current.headersSent || current.req.complete);
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) {
    socket.destroy();
    return;
  }
  refuseOn(socket, ...(BY_CODE[error.code ?? ''] ?? [400, 'request-malformed', 'this is not an HTTP request']));
}

/** CONNECT (RFC 9110 §9.3.6) asks for a proxy. */
export const refuseTunnel = (socket: Duplex): void => refuseOn(socket, 501, 'method-unknown', 'this is no proxy');

/**
 * What Node's own check lets pass or answers without a body. True when the request has been refused: RFC 9112 §3.2 wants a 400 for a request with no
 * Host, or with two.
 */
export function refusedByHost(request: IncomingMessage, response: ServerResponse): boolean {
  const hosts = request.rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host').length;
  if (hosts === 1 || (hosts === 0 && request.httpVersion === '1.0')) return false;
  refuse(response, 400, 'request-malformed', 'a request names one host');
  return true;
}

/** What a proxy passes on for somebody who may not be here. */
export function refuseNetwork(response: ServerResponse): void {
  refuse(response, 403, 'network-refused', 'this network may not reach this listener');
}

/** RFC 9110 §10.1.1: an expectation other than 100-continue. */
export const refuseExpectation = (response: ServerResponse): void =>
  refuse(response, 417, 'expectation-unknown', 'nothing but 100-continue can be expected here');

function refuse(response: ServerResponse, status: number, code: string, detail: string): void {
  const { headers, body } = written(status, code, detail);
  response.writeHead(status, headers).end(body);
}

function refuseOn(socket: Duplex, status: number, code: string, detail: string): void {
  const { headers, body } = written(status, code, detail);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, '', body].join('\r\n'), () => socket.destroy());
}

function written(status: number, code: string, detail: string) {
  const body = JSON.stringify(problem(status, code, detail, newId()));
  const headers = {
    // RFC 9110 §6.6.1
    date: new Date().toUTCString(),
    'content-type': 'application/problem+json',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
    connection: 'close',
  };
  return { headers, body };
}
