import { closeSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';

/** sizeof(sockaddr_un.sun_path) less its NUL: unix(7). */
const LONGEST = 107;

/** A name of the socket short enough for bind and connect, however deep its folder lies; `release` it when bound or connected. */
export function socketName(path: string): { name: string; release: () => void } {
  if (Buffer.byteLength(path) <= LONGEST) return { name: path, release: () => undefined };
  const folder = openSync(dirname(path), 'r');
  return { name: `/proc/self/fd/${folder}/${basename(path)}`, release: () => closeSync(folder) };
}
