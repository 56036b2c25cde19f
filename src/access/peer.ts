import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { Fault } from '../foundation/index.js';
import type { RouteClass } from './network-policy.js';

/** What a connection is: decided once, when it is accepted, and the same for each of its requests. */
export interface Peer {
  readonly kind: RouteClass;
  /** The address that was judged: the socket's own, or the one that a named proxy spoke for. */
  readonly network: string;
  /** DER of the client certificate, one object per connection. */
  certificate(): Buffer | undefined;
}

const peers = new WeakMap<Socket, Peer>();
const claims = new WeakMap<IncomingMessage, Peer>();

/** Called by the listener for each connection that the network policy let in. */
export function registerPeer(socket: Socket, kind: RouteClass, network: string): void {
  let certificate: Buffer | undefined;
  peers.set(socket, {
    kind,
    network,
    certificate: () => {
      if (!certificate && socket instanceof TLSSocket) certificate = socket.getPeerX509Certificate()?.raw;
      return certificate;
    },
  });
}

/** Called by the listener for each request that an HTTP proxy passes on: one connection of it carries requests of many. */
export function registerClaim(request: IncomingMessage, network: string): void {
  claims.set(request, { ...peerOf(request), network });
}

export function peerOf(request: IncomingMessage): Peer {
  const peer = claims.get(request) ?? peers.get(request.socket);
  if (!peer) throw new Fault('forbidden', 'route-unknown', 'this connection came by no listener');
  return peer;
}
