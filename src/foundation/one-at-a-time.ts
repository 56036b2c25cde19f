/** Runs acts of the same name one after another; others side by side. Within one process: between nodes the database's unique indexes decide. */
export class OneAtATime {
  readonly #tails = new Map<string, Promise<unknown>>();

  async run<T>(name: string, act: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(name);
    const mine = (async () => {
      await before?.catch(() => {});
      return act();
    })();
    this.#tails.set(name, mine);
    try {
      return await mine;
    } finally {
      if (this.#tails.get(name) === mine) this.#tails.delete(name);
    }
  }
}
