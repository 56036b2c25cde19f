import type { Reader, Storage, Unit } from '../foundation/index.js';

/** Where those who follow the log have come to: the search index, each sink. Durable, and never behind what was kept before. */
export class Cursors {
  constructor(private readonly storage: Storage) {}

  /** Index of the first entry that `name` has not done. */
  async next(name: string, reader: Reader = this.storage): Promise<number> {
    return (await reader.one<{ next: number }>('SELECT next FROM audit_cursors WHERE name = ?', [name]))?.next ?? 0;
  }

  /** Takes a cursor for this node alone, for so many milliseconds; false while another has it. */
  hold(name: string, node: string, now: number, milliseconds: number): Promise<boolean> {
    return this.storage.write(async (unit) => {
      await unit.run('INSERT INTO audit_cursors (name, next, holder, until) VALUES (?, 0, NULL, 0) ON CONFLICT (name) DO NOTHING', [name]);
      const held = await unit.run('UPDATE audit_cursors SET holder = ?, until = ? WHERE name = ? AND (holder = ? OR until <= ?)', [
        node,
        now + milliseconds,
        name,
        node,
        now,
      ]);
      return held === 1;
    });
  }

  /** Moves on from exactly `from`. False where another node was there: what was done may have been done twice, and is not kept. */
  async move(unit: Unit, name: string, from: number, to: number): Promise<boolean> {
    if (from === 0)
      await unit.run('INSERT INTO audit_cursors (name, next, holder, until) VALUES (?, 0, NULL, 0) ON CONFLICT (name) DO NOTHING', [name]);
    return (await unit.run('UPDATE audit_cursors SET next = ? WHERE name = ? AND next = ?', [to, name, from])) === 1;
  }
}
