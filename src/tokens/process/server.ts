import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { encodeFrame, type Frame, FrameReader, requestHead } from './frames.js';
import { socketName } from './socket-path.js';
import { seen } from './token-faults.js';

/** One API process, an operator's command, and a few that are just being replaced. */
const CONNECTIONS = 16;
/** Bytes of answers that a peer may leave unread. */
const UNREAD = 64 * 2 ** 20;

/** The door of the token process: a Unix socket that only its own user can open, or also the group of its folder where that is asked for. Garbage closes its connection and does nothing else. */
export class TokenServer {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();

  /** @param answer takes verb and body, gives the answer's body; rejects with what the caller may see of a failure */
  constructor(
    private readonly path: string,
    private readonly answer: (op: string, body: string) => Promise<string>,
    private readonly shared = false,
  ) {
    this.server = createServer((socket) => this.serve(socket));
    this.server.maxConnections = CONNECTIONS;
  }

  /** The caller holds the lock of the token's state, so a socket that lies there is nobody's. */
  async listen(): Promise<void> {
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
    rmSync(this.path, { force: true });
    const { name, release } = socketName(this.path);
    try {
      await new Promise<void>((resolve, reject) => this.server.once('error', reject).listen(name, resolve));
    } finally {
      release();
    }
    chmodSync(this.path, this.shared ? 0o660 : 0o600);
  }

  close(): void {
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
    rmSync(this.path, { force: true });
  }

  private serve(socket: Socket): void {
    const reader = new FrameReader();
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const frame of reader.push(chunk)) this.take(socket, frame);
      } catch {
        socket.destroy();
      }
    });
  }

  /** Throws on a head that is none. */
  private take(socket: Socket, frame: Frame): void {
    const { id, op } = requestHead.parse(JSON.parse(frame.head));
    void this.answer(op, frame.body)
      .then((body) => encodeFrame({ id }, body))
      .catch((error: unknown) => encodeFrame({ id, fault: seen(error) }, 'null'))
      .then((bytes) => {
        if (socket.destroyed) return;
        socket.write(bytes);
        if (socket.writableLength > UNREAD) socket.destroy();
      });
  }
}
