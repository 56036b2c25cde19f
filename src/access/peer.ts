import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { Fault } from '../foundation/index.js';
import { plainAddress, type RouteClass } from './network-policy.js';

/** What a connection is: decided once, when it is accepted, and the same for each of its requests. */
export interface Peer {
  readonly kind: RouteClass;
  readonly network: string;
  /** DER of the client certificate, one object per connection. */
  certificate(): Buffer | undefined;
}

const peers = new WeakMap<Socket, Peer>();

/** Called by the listener for each connection that its network policy let in. */
export function registerPeer(socket: Socket, kind: RouteClass): void {
  let certificate: Buffer | undefined;
  peers.set(socket, {
    kind,
    network: plainAddress(socket.remoteAddress ?? ''),
    certificate: () => {
      if (!certificate && socket instanceof TLSSocket) certificate = socket.getPeerX509Certificate()?.raw;
      return certificate;
    },
  });
}

export function peerOf(socket: Socket): Peer {
  const peer = peers.get(socket);
  if (!peer) throw new Fault('forbidden', 'route-unknown', 'this connection came by no listener');
  return peer;
}
