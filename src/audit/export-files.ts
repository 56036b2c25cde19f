import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import type { ExportSource } from '../codec/audit-log/index.js';

/** An export in a folder. Links are not followed: what is verified is what lies there. */
export function exportFolder(folder: string): ExportSource {
  return {
    read: async (path) => {
      try {
        return readFileSync(join(folder, path));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    paths: async () =>
      readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name).slice(folder.length).split(sep).filter(Boolean).join('/')),
  };
}

/** Refuses to overwrite. */
export function writeExportFile(folder: string, path: string, bytes: Uint8Array | string): void {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, bytes, { flag: 'wx', mode: 0o600 });
}
