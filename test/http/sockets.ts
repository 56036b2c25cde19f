import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** Sends bytes as they are and resolves with all that comes back until the peer closes; of TLS when `root` is given. */
export function raw(port: number, bytes: string | Buffer, root?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = root ? connectTls({ host: '127.0.0.1', port, ca: [root], servername: 'localhost' }) : connect(port, '127.0.0.1');
    const pieces: Buffer[] = [];
    const timer = setTimeout(() => socket.destroy(new Error('the connection stayed open')), 5_000);
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNRESET' || error.code === 'EPIPE' ? undefined : reject(error),
    );
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(pieces).toString('latin1'));
    });
    socket.write(bytes);
  });
}
