import { constants } from 'node:crypto';
import { createServer as createHttpServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { Server as NetServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import {
  type NamedProxy,
  type NetworkPolicy,
  plainAddress,
  type RefusalRule,
  type RouteClass,
  registerClaim,
  registerPeer,
  sourceOf,
} from '../access/index.js';
import type { TlsCredentials } from '../certificates/index.js';
import { pem } from '../certificates/index.js';
import { Fault } from '../foundation/index.js';
import { proxySource } from './proxy-source.js';
import { refuseBytes, refusedByHost, refuseExpectation, refuseNetwork, refuseTunnel } from './unreadable.js';

export interface Place {
  host: string;
  port: number;
}

/** Per listener. Slow clients are cut off. */
const LIMITS = {
  /** Connections at a time; one more is closed at once. */
  connections: 2_000,
  /** Bytes of a request's header. */
  headerBytes: 8_192,
  /** Milliseconds for a handshake, for the header, and for the whole request, and between two looks at who is late. */
  header: 10_000,
  request: 30_000,
  look: 1_000,
  /** Milliseconds of an idle connection, and of one that takes nothing of its answer. */
  idle: 75_000,
} as const;

const options = {
  maxHeaderSize: LIMITS.headerBytes,
  headersTimeout: LIMITS.header,
  requestTimeout: LIMITS.request,
  connectionsCheckingInterval: LIMITS.look,
  keepAliveTimeout: LIMITS.idle,
  requireHostHeader: false,
} as const;

/** Forward secrecy and an AEAD (RFC 9325 §4.2); the certificate is ECDSA. Those of TLS 1.3 are all strong. */
const TLS_1_2 = 'ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256';
const TLS_1_3 = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256';

/** A connection that was let in. */
interface Open {
  kind: RouteClass;
  /** The judged address; that of the proxy itself where each request names its own. */
  network: string;
  /** An HTTP proxy that each request's field counts from. */
  proxy?: NamedProxy;
}

interface Door {
  kind: RouteClass;
  server: HttpServer | HttpsServer;
  clientAuthorities: (() => readonly Buffer[]) | undefined;
  /** Open connections by source. */
  sources: Map<string, number>;
}

/** What the listeners ask and tell. */
export interface Gate {
  /** The policy in force. */
  policy(): NetworkPolicy;
  /** Told of each connection or request that the policy refused. */
  refused(kind: RouteClass, address: string, rule: RefusalRule): void;
}

/**
 * The appliance's doors: one server per route class, all into one application. Addresses are judged when a connection is accepted, before TLS; of a
 * proxy its own, and then the one it speaks for.
 */
export class Listeners {
  readonly #doors: Door[] = [];
  readonly #open = new Map<Socket, Open>();
  /** The same connections by both their ends, which a TLS socket and what it runs on have in common. */
  readonly #byEnds = new Map<string, Open>();
  /** The answer under way on a connection. */
  readonly #answers = new WeakMap<Duplex, ServerResponse>();

  constructor(
    private readonly app: FastifyInstance,
    private readonly gate: Gate,
  ) {}

  /**
   * TLS. With `clientAuthorities` a client certificate is asked for, and each route that needs one demands it; without, none is: a browser would ask
   * its person for one.
   */
  async openTls(kind: RouteClass, place: Place, credentials: TlsCredentials, clientAuthorities?: () => readonly Buffer[]): Promise<Place> {
    const server = createHttpsServer(
      {
        ...options,
        ...this.#secureContext(credentials, clientAuthorities),
        requestCert: clientAuthorities !== undefined,
        rejectUnauthorized: false,
        handshakeTimeout: LIMITS.header,
      },
      (request, response) => this.#serve(request, response),
    );
    server.on('secureConnection', (socket) => this.#register(socket));
    server.on('tlsClientError', (_, socket) => socket.destroy());
    return this.#listen({ kind, server, clientAuthorities, sources: new Map() }, place);
  }

  async openPlain(kind: RouteClass, place: Place): Promise<Place> {
    const server = createHttpServer(options, (request, response) => this.#serve(request, response));
    server.prependListener('connection', (socket) => this.#register(socket));
    return this.#listen({ kind, server, clientAuthorities: undefined, sources: new Map() }, place);
  }

  /** New credentials, another TLS version by policy or other authorities of clients, for connections from now on. */
  renew(credentials: TlsCredentials): void {
    for (const { server, clientAuthorities } of this.#doors)
      if ('setSecureContext' in server) server.setSecureContext(this.#secureContext(credentials, clientAuthorities));
  }

  /** After a change of the policy: who may not be here any more is not. */
  judgeAgain(): void {
    const policy = this.gate.policy();
    for (const [socket, { kind, network, proxy }] of this.#open) {
      const stays = proxy ? policy.proxy(kind, network)?.speaks === proxy.speaks : policy.allows(kind, network);
      if (!stays) socket.destroy();
    }
  }

  /** Takes no new connection, lets requests under way finish for `grace` milliseconds, then ends the rest. */
  async close(grace: number): Promise<void> {
    const closing = this.#doors.map(({ server }) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const { server } of this.#doors) server.closeIdleConnections();
    const timer = setTimeout(() => {
      for (const socket of this.#open.keys()) socket.destroy();
    }, grace);
    await Promise.all(closing);
    clearTimeout(timer);
  }

  #listen(door: Door, place: Place): Promise<Place> {
    const { server, kind } = door;
    server.maxConnections = LIMITS.connections;
    server.setTimeout(LIMITS.idle);
    // Ours before TLS or HTTP sees a byte: what they would do with a new connection is done once it is let in.
    const take = server.listeners('connection') as ((socket: Socket) => void)[]; // as Node's own types of the event say
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => {
      socket.on('error', () => socket.destroy()); // until somebody else listens
      void this.#admit(door, socket).then((isIn) => {
        if (isIn) for (const one of take) one.call(server, socket);
        else socket.destroy();
      });
    });
    server.on('clientError', (error, socket) => refuseBytes(error, socket, this.#answers.get(socket)));
    server.on('checkExpectation', (_request, response) => refuseExpectation(response));
    server.on('connect', (_request, socket) => refuseTunnel(socket));
    this.#doors.push(door);
    return bind(server, kind, place);
  }

  /** True when the connection may go on. */
  async #admit(door: Door, socket: Socket): Promise<boolean> {
    const { kind } = door;
    const own = plainAddress(socket.remoteAddress);
    const proxy = this.gate.policy().proxy(kind, own);
    if (!proxy) return this.#judge(door, socket, { kind, network: own });
    if (proxy.speaks !== 'proxy-protocol') return this.#enter(door, socket, { kind, network: own, proxy });
    const source = await proxySource(socket, LIMITS.header);
    if (source !== undefined) return this.#judge(door, socket, { kind, network: source.claimed ?? own });
    this.gate.refused(kind, own, 'proxy-header');
    return false;
  }

  #judge(door: Door, socket: Socket, open: Open): boolean {
    const policy = this.gate.policy();
    const rule =
      policy.refusal(open.kind, open.network) ??
      ((door.sources.get(sourceOf(open.network)) ?? 0) >= policy.document.network.connectionsPerAddress
        ? 'connections-per-address'
        : undefined);
    if (rule === undefined) return this.#enter(door, socket, open);
    this.gate.refused(open.kind, open.network, rule);
    return false;
  }

  #enter({ sources }: Door, socket: Socket, open: Open): boolean {
    const ends = endsOf(socket);
    if (socket.destroyed || ends === undefined) return false;
    const source = sourceOf(open.network);
    sources.set(source, (sources.get(source) ?? 0) + 1);
    this.#open.set(socket, open);
    this.#byEnds.set(ends, open);
    socket.once('close', () => {
      this.#open.delete(socket);
      this.#byEnds.delete(ends);
      const left = (sources.get(source) ?? 1) - 1;
      if (left > 0) sources.set(source, left);
      else sources.delete(source);
    });
    return true;
  }

  #register(socket: Socket): void {
    const open = this.#byEnds.get(endsOf(socket) ?? '');
    if (open) registerPeer(socket, open.kind, open.network);
    else socket.destroy();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.#answers.set(request.socket, response);
    if (!refusedByHost(request, response) && !this.#refusedByClaim(request, response)) this.app.routing(request, response);
  }

  /** True when an HTTP proxy's request names nobody who may be here, and has been refused. */
  #refusedByClaim(request: IncomingMessage, response: ServerResponse): boolean {
    const open = this.#open.get(request.socket);
    if (!open?.proxy) return false;
    const { kind, network, proxy } = open;
    const policy = this.gate.policy();
    const claimed = policy.claimed(kind, proxy, (field) => request.headersDistinct[field] ?? []);
    const rule = claimed === '' ? 'proxy-header' : policy.refusal(kind, claimed);
    if (rule === undefined) {
      registerClaim(request, claimed);
      return false;
    }
    this.gate.refused(kind, claimed || network, rule);
    refuseNetwork(response);
    return true;
  }

  #secureContext({ key, certificate, authority }: TlsCredentials, clientAuthorities: Door['clientAuthorities']) {
    const { minimum } = this.gate.policy().document.tls;
    return {
      key: key.export({ type: 'pkcs8', format: 'pem' }),
      cert: pem(certificate) + pem(authority),
      ...(clientAuthorities ? { ca: clientAuthorities().map(pem) } : {}),
      minVersion: `TLSv${minimum}` as const,
      maxVersion: 'TLSv1.3' as const,
      ciphers: minimum === '1.2' ? `${TLS_1_3}:${TLS_1_2}` : TLS_1_3,
      honorCipherOrder: true,
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
    };
  }
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string | undefined {
  return remoteAddress === undefined ? undefined : `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
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
