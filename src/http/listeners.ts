import { createServer as createHttpServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { Server as NetServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { type NetworkPolicy, type RouteClass, registerPeer } from '../access/index.js';
import type { TlsCredentials } from '../certificates/index.js';
import { pem } from '../certificates/index.js';
import { Fault } from '../foundation/index.js';
import { refuseBytes, refusedByHost, refuseExpectation, refuseTunnel } from './unreadable.js';

export interface Place {
  host: string;
  port: number;
}

/** Per listener. Slow clients are cut off; more connections than this wait in the kernel. */
const LIMITS = {
  /** Connections at a time. */
  connections: 2_000,
  /** Bytes of a request's header. */
  headerBytes: 8_192,
  /** Milliseconds for the header, and for the whole request. */
  header: 10_000,
  request: 30_000,
  /** Milliseconds of an idle connection. */
  idle: 75_000,
} as const;

const options = {
  maxHeaderSize: LIMITS.headerBytes,
  headersTimeout: LIMITS.header,
  requestTimeout: LIMITS.request,
  keepAliveTimeout: LIMITS.idle,
  requireHostHeader: false,
} as const;

/** The appliance's doors: one server per route class, all into one application. Addresses are judged when a connection is accepted, before TLS. */
export class Listeners {
  readonly #servers: { server: HttpServer | HttpsServer; clientAuthorities: readonly Buffer[] }[] = [];
  readonly #open = new Set<Socket>();
  /** The answer under way on a connection. */
  readonly #answers = new WeakMap<Duplex, ServerResponse>();

  constructor(
    private readonly app: FastifyInstance,
    private readonly networks: NetworkPolicy,
    private readonly refused: (kind: RouteClass, address: string) => void,
  ) {}

  /**
   * TLS 1.3. With `clientAuthorities` a client certificate is asked for, and each route that needs one demands it; without, none is: a browser
   * would ask its person for one.
   */
  async openTls(kind: RouteClass, place: Place, credentials: TlsCredentials, clientAuthorities: readonly Buffer[] = []): Promise<Place> {
    const server = createHttpsServer(
      {
        ...options,
        ...secureContext(credentials, clientAuthorities),
        requestCert: clientAuthorities.length > 0,
        rejectUnauthorized: false,
        handshakeTimeout: LIMITS.header,
      },
      (request, response) => this.#serve(request, response),
    );
    server.on('secureConnection', (socket) => registerPeer(socket, kind));
    server.on('tlsClientError', (_, socket) => socket.destroy());
    return this.#listen(kind, server, place, clientAuthorities);
  }

  async openPlain(kind: RouteClass, place: Place): Promise<Place> {
    const server = createHttpServer(options, (request, response) => this.#serve(request, response));
    server.on('connection', (socket) => registerPeer(socket, kind));
    return this.#listen(kind, server, place);
  }

  /** New credentials for connections from now on. */
  renew(credentials: TlsCredentials): void {
    for (const { server, clientAuthorities } of this.#servers)
      if ('setSecureContext' in server) server.setSecureContext(secureContext(credentials, clientAuthorities));
  }

  /** Takes no new connection, lets requests under way finish for `grace` milliseconds, then ends the rest. */
  async close(grace: number): Promise<void> {
    const closing = this.#servers.map(({ server }) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const { server } of this.#servers) server.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of this.#open) socket.destroy();
    }, grace);
    await Promise.all(closing);
    clearTimeout(timer);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.#answers.set(request.socket, response);
    if (!refusedByHost(request, response)) this.app.routing(request, response);
  }

  #listen(kind: RouteClass, server: HttpServer | HttpsServer, place: Place, clientAuthorities: readonly Buffer[] = []): Promise<Place> {
    server.maxConnections = LIMITS.connections;
    // The first listener on `connection`, before TLS or HTTP sees a byte.
    server.prependListener('connection', (socket: Socket) => {
      if (!this.networks.allows(kind, socket.remoteAddress)) {
        this.refused(kind, socket.remoteAddress ?? '');
        socket.destroy();
        return;
      }
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
    server.on('clientError', (error, socket) => refuseBytes(error, socket, this.#answers.get(socket)));
    server.on('checkExpectation', (_request, response) => refuseExpectation(response));
    server.on('connect', (_request, socket) => refuseTunnel(socket));
    this.#servers.push({ server, clientAuthorities });
    return bind(server, kind, place);
  }
}

function bind(server: NetServer, kind: RouteClass, place: Place): Promise<Place> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = {
        EADDRINUSE: 'is in use by another program',
        EADDRNOTAVAIL: 'is no address of this machine',
        EACCES: 'may not be opened by this user',
      }[error.code ?? ''];
      reject(
        new Fault(
          'misconfigured',
          'listen-failed',
          `listen.${kind}: ${place.host}:${place.port} ${why ?? `cannot be opened (${error.code})`}`,
        ),
      );
    });
    server.listen(place.port, place.host, () => {
      const address = server.address();
      resolve({ host: place.host, port: typeof address === 'object' && address ? address.port : place.port });
    });
  });
}

const secureContext = ({ key, certificate, authority }: TlsCredentials, clientAuthorities: readonly Buffer[]) => ({
  key: key.export({ type: 'pkcs8', format: 'pem' }),
  cert: pem(certificate) + pem(authority),
  ...(clientAuthorities.length > 0 ? { ca: clientAuthorities.map(pem) } : {}),
  minVersion: 'TLSv1.3' as const,
});
