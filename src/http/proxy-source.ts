import type { Socket } from 'node:net';
import { readAddress } from '../access/index.js';
import { readProxyHeader } from '../codec/proxy-protocol.js';

/**
 * Takes a PROXY header off a connection that nobody reads yet; what comes behind it stays for whoever reads next. Resolves with the claimed
 * address, without one for a connection of the proxy's own, or undefined when there is no header in time or it is none.
 * @param patience milliseconds
 */
export function proxySource(socket: Socket, patience: number): Promise<{ claimed?: string } | undefined> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    const timer = setTimeout(() => end(undefined), patience);
    function end(source: { claimed?: string } | undefined): void {
      clearTimeout(timer);
      socket.off('readable', read).off('close', gone).off('end', gone);
      resolve(source);
    }
    const gone = () => end(undefined);
    function read(): void {
      for (let piece = socket.read() as Buffer | null; piece !== null; piece = socket.read() as Buffer | null) pieces.push(piece);
      if (pieces.length === 0) return;
      const bytes = Buffer.concat(pieces);
      try {
        const header = readProxyHeader(bytes);
        if (!header) return;
        if (bytes.length > header.length) socket.unshift(bytes.subarray(header.length));
        const claimed = header.source === undefined ? undefined : readAddress(header.source);
        end(claimed === undefined ? {} : { claimed });
      } catch {
        gone();
      }
    }
    socket.on('readable', read).once('close', gone).once('end', gone);
  });
}
