import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MAX_MAIL, MAX_MAILS, Mailbox } from './mailbox.js';

/** A Maildir: mails lie in `new/` until a mail program has seen them, then in `cur/`. */
export class Maildir extends Mailbox {
  readonly #folder: string;
  readonly #shown = new Set<string>();

  constructor(folder: string) {
    super();
    this.#folder = folder;
  }

  override async unseen(): Promise<Buffer[]> {
    const found: { id: string; path: string; time: number }[] = [];
    for (const part of ['new', 'cur']) {
      // The folder may come with the first mail.
      for (const name of await readdir(join(this.#folder, part)).catch(() => [])) {
        const path = join(this.#folder, part, name);
        // Up to the colon the name stays when a mail moves from new/ to cur/.
        const [id = name] = name.split(':', 1);
        const file = this.#shown.has(id) || name.startsWith('.') ? undefined : await stat(path).catch(() => undefined);
        if (file?.isFile() && file.size <= MAX_MAIL) found.push({ id, path, time: file.mtimeMs });
      }
    }
    const newest = found.toSorted((a, b) => b.time - a.time).slice(0, MAX_MAILS);
    const mails: Buffer[] = [];
    for (const { id, path } of newest) {
      const mail = await readFile(path).catch(() => undefined);
      if (!mail) continue;
      this.#shown.add(id);
      mails.push(mail);
    }
    return mails;
  }

  override async close(): Promise<void> {}
}
