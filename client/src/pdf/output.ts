import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, ftruncateSync, openSync, readdirSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileSink, type Sink } from '../../../src/codec/pdf/index.js';
import { Fault } from '../../../src/foundation/index.js';
import { reason } from '../store/index.js';

const PART = /^\.mesign-(\d+)-[0-9a-f]{16}\.part$/;

/** A file that is there whole or not at all: written beside, synced, renamed. What a killed process of ours left beside goes with the next one. */
export function writeDocument<T>(path: string, mode: number, write: (sink: Sink) => T): T {
  const folder = dirname(path);
  removeLeftovers(folder);
  const beside = join(folder, `.mesign-${process.pid}-${randomBytes(8).toString('hex')}.part`);
  const file = opened(path, beside, mode);
  let isOpen = true;
  try {
    const result = write(fileSink(file, writeSync, ftruncateSync));
    fsyncSync(file);
    isOpen = false;
    closeSync(file);
    renameSync(beside, path);
    syncFolder(folder);
    return result;
  } catch (error) {
    if (isOpen) closeSync(file);
    try {
      unlinkSync(beside);
    } catch {
      // renamed already, or gone
    }
    throw error instanceof Error && 'syscall' in error ? unwritable(path, error) : error;
  }
}

function opened(path: string, beside: string, mode: number): number {
  try {
    return openSync(beside, 'wx', mode);
  } catch (error) {
    throw unwritable(path, error);
  }
}

const unwritable = (path: string, error: unknown) =>
  new Fault('unavailable', 'file-unwritable', `${path} cannot be written: ${reason(error)}`);

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function removeLeftovers(folder: string): void {
  for (const name of namesIn(folder)) {
    const owner = Number(PART.exec(basename(name))?.[1] ?? 0);
    if (owner === 0 || owner === process.pid || isAlive(owner)) continue;
    try {
      unlinkSync(join(folder, name));
    } catch {
      // somebody else was faster, or it is not ours to remove
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // opening the file says why
  }
}

function isAlive(process_: number): boolean {
  try {
    process.kill(process_, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
