import { excessive } from './faults.js';
import { LIMITS } from './limits.js';

const UNKNOWN = 0;
const FREE = 1;
const DIRECT = 2;
const PACKED = 3;

export type Place = { kind: 'direct'; at: number; generation: number } | { kind: 'packed'; container: number; index: number };

/** Where each object stands: 11 bytes an object, for the highest number that occurs. What is set first stays: sections are read newest first. */
export class Places {
  #kinds = new Uint8Array(1024);
  #generations = new Uint16Array(1024);
  #offsets = new Float64Array(1024);
  #end = 0;

  /** One more than the highest number. */
  get end(): number {
    return this.#end;
  }

  set(number: number, place: Place | 'free', replace = false): void {
    if (number > LIMITS.objects) throw excessive(`object number ${number}`);
    if (number >= this.#kinds.length) this.#grow(number + 1);
    if (!replace && this.#kinds[number] !== UNKNOWN) return;
    this.#end = Math.max(this.#end, number + 1);
    this.#kinds[number] = place === 'free' ? FREE : place.kind === 'direct' ? DIRECT : PACKED;
    if (place === 'free') return;
    this.#offsets[number] = place.kind === 'direct' ? place.at : place.container * 2 ** 24 + place.index;
    this.#generations[number] = place.kind === 'direct' ? place.generation : 0;
  }

  get(number: number): Place | undefined {
    const kind = this.#kinds[number];
    const offset = this.#offsets[number] ?? 0;
    if (kind === DIRECT) return { kind: 'direct', at: offset, generation: this.#generations[number] ?? 0 };
    if (kind === PACKED) return { kind: 'packed', container: Math.floor(offset / 2 ** 24), index: offset % 2 ** 24 };
    return undefined;
  }

  /** Numbers of the objects that stand in the file itself, in its order. */
  direct(): Uint32Array {
    const found: number[] = [];
    for (let number = 0; number < this.#end; number++) if (this.#kinds[number] === DIRECT) found.push(number);
    return Uint32Array.from(found).sort((a, b) => (this.#offsets[a] ?? 0) - (this.#offsets[b] ?? 0));
  }

  /** Numbers of the objects in object streams, by stream, in its order. */
  packed(): Map<number, number[]> {
    const containers = new Map<number, number[]>();
    for (let number = 0; number < this.#end; number++) {
      if (this.#kinds[number] !== PACKED) continue;
      const container = Math.floor((this.#offsets[number] ?? 0) / 2 ** 24);
      const inside = containers.get(container);
      if (inside) inside.push(number);
      else containers.set(container, [number]);
    }
    return containers;
  }

  #grow(least: number): void {
    const length = Math.min(LIMITS.objects + 1, Math.max(least, this.#kinds.length * 2));
    const [kinds, generations, offsets] = [new Uint8Array(length), new Uint16Array(length), new Float64Array(length)];
    kinds.set(this.#kinds);
    generations.set(this.#generations);
    offsets.set(this.#offsets);
    [this.#kinds, this.#generations, this.#offsets] = [kinds, generations, offsets];
  }
}
