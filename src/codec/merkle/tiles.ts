/** C2SP tlog-tiles: https://c2sp.org/tlog-tiles. */

/** Hashes in a full tile, entries in a full bundle. */
export const TILE_WIDTH = 256;
export const TILE_HEIGHT = 8;

export interface Tile {
  /** 0: leaf hashes; above, each hash is that of a full tile below. */
  level: number;
  index: number;
  /** 1 to 256. */
  width: number;
}

/** `x001/x234/067`, and `.p/W` where the tile is partial. */
export function tileName({ index, width }: Pick<Tile, 'index' | 'width'>): string {
  const groups: string[] = [];
  for (let rest = index; groups.length === 0 || rest > 0; rest = Math.floor(rest / 1000))
    groups.unshift(`${groups.length === 0 ? '' : 'x'}${String(rest % 1000).padStart(3, '0')}`);
  return groups.join('/') + (width < TILE_WIDTH ? `.p/${width}` : '');
}

/** The one spelling only. Undefined for anything else. */
export function parseTileName(name: string): Pick<Tile, 'index' | 'width'> | undefined {
  const [, path = '', partial] = /^((?:x\d{3}\/){0,4}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/.exec(name) ?? [];
  const index = Number(path.replace(/[x/]/g, '') || Number.NaN);
  const width = partial === undefined ? TILE_WIDTH : Number(partial);
  const tile = { index, width };
  return Number.isSafeInteger(index) && tileName(tile) === name ? tile : undefined;
}

export const tilePath = (tile: Tile): string => `tile/${tile.level}/${tileName(tile)}`;
export const bundlePath = (bundle: Pick<Tile, 'index' | 'width'>): string => `tile/entries/${tileName(bundle)}`;

/** Every tile that stands for a tree of this size, lowest level first: full ones, and at each level the partial one if there is one. */
export function* tilesOf(size: number): Generator<Tile> {
  for (let [level, count] = [0, size]; count > 0; level += 1, count = Math.floor(count / TILE_WIDTH))
    for (let index = 0; index * TILE_WIDTH < count; index += 1)
      yield { level, index, width: Math.min(TILE_WIDTH, count - index * TILE_WIDTH) };
}

/** A bundle's entries, each after its length in two bytes. Throws RangeError for an entry above 65,535 bytes. */
export function encodeBundle(entries: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(entries.reduce((sum, { length }) => sum + 2 + length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const entry of entries) {
    if (entry.length > 0xffff) throw new RangeError('an entry has at most 65,535 bytes');
    view.setUint16(at, entry.length);
    bytes.set(entry, at + 2);
    at += 2 + entry.length;
  }
  return bytes;
}

/** As many entries as are whole; `rest` is the number of bytes that are not one. */
export function decodeBundle(bytes: Uint8Array): { entries: Uint8Array[]; rest: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: Uint8Array[] = [];
  let at = 0;
  while (at + 2 <= bytes.length) {
    const end = at + 2 + view.getUint16(at);
    if (end > bytes.length) break;
    entries.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return { entries, rest: bytes.length - at };
}
