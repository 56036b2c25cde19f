/** Bytes with one use and no print: `spend` hands them over once and wipes them afterwards. */
export class Secret {
  #bytes: Buffer | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes);
  }

  async spend<T>(use: (bytes: Buffer) => T | Promise<T>): Promise<T> {
    const bytes = this.#bytes;
    if (!bytes) throw new Error('this secret has been spent');
    this.#bytes = undefined;
    try {
      return await use(bytes);
    } finally {
      bytes.fill(0);
    }
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}
