import { constants, inflateSync } from 'node:zlib';
import { damaged, excessive, unsupported } from './faults.js';
import { LIMITS } from './limits.js';
import { type Dict, integerOf, isDict, nameOf, type Value } from './values.js';

/** How much may still be inflated: shared by all streams of one document. */
export class Allowance {
  #left: number;

  constructor(fileSize: number) {
    this.#left = LIMITS.inflatedTotal + LIMITS.inflatedRatio * fileSize;
  }

  take(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0) throw excessive('its compressed structure is far larger than real ones are');
  }
}

const listed = (value: Value | undefined): Value[] => (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]);

/** The content of a cross-reference or object stream (ISO 32000-2 §7.4). Other streams are never decoded. */
export function decoded(raw: Buffer, dict: Dict, allowance: Allowance): Buffer {
  const filters = listed(dict.get('Filter')).map(nameOf);
  const parameters = listed(dict.get('DecodeParms'));
  let bytes = raw;
  filters.forEach((filter, index) => {
    if (filter === 'Crypt') return;
    if (filter !== 'FlateDecode' && filter !== 'Fl') throw unsupported(`a structural stream has the filter ${filter ?? 'of no name'}`);
    bytes = inflated(bytes, allowance);
    const parameter = parameters[index];
    if (isDict(parameter)) bytes = unpredicted(bytes, parameter);
  });
  return bytes;
}

function inflated(bytes: Buffer, allowance: Allowance): Buffer {
  try {
    // What is cut short at its end gives what is there, as in every reader.
    const content = inflateSync(bytes, { maxOutputLength: LIMITS.inflatedBytes, finishFlush: constants.Z_SYNC_FLUSH });
    allowance.take(content.length);
    return content;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_BUFFER_TOO_LARGE') throw excessive(`a structural stream of more than ${LIMITS.inflatedBytes} bytes`);
    if (code?.startsWith('Z_')) throw damaged('a structural stream does not inflate');
    throw error;
  }
}

/** PNG predictors (ISO 32000-2 §7.4.4.4), of 8-bit components. */
function unpredicted(bytes: Buffer, parameters: Dict): Buffer {
  const predictor = integerOf(parameters.get('Predictor')) ?? 1;
  if (predictor === 1) return bytes;
  const columns = integerOf(parameters.get('Columns')) ?? 1;
  const colours = integerOf(parameters.get('Colors')) ?? 1;
  if (
    predictor < 10 ||
    columns < 1 ||
    colours < 1 ||
    columns * colours > 65_536 ||
    (integerOf(parameters.get('BitsPerComponent')) ?? 8) !== 8
  )
    throw unsupported('a structural stream has an unusual predictor');
  const width = columns * colours;
  const rows = Math.ceil(bytes.length / (width + 1));
  const out = Buffer.alloc(rows * width);
  for (let row = 0; row < rows; row++) {
    const kind = bytes[row * (width + 1)];
    for (let column = 0; column < width; column++) {
      const at = row * width + column;
      const raw = bytes[row * (width + 1) + 1 + column] ?? 0;
      const left = column >= colours ? (out[at - colours] ?? 0) : 0;
      const up = row > 0 ? (out[at - width] ?? 0) : 0;
      const upLeft = row > 0 && column >= colours ? (out[at - width - colours] ?? 0) : 0;
      out[at] = raw + (kind === 1 ? left : kind === 2 ? up : kind === 3 ? (left + up) >> 1 : kind === 4 ? paeth(left, up, upLeft) : 0);
    }
  }
  return out;
}

function paeth(left: number, up: number, upLeft: number): number {
  const estimate = left + up - upLeft;
  const [toLeft, toUp, toUpLeft] = [Math.abs(estimate - left), Math.abs(estimate - up), Math.abs(estimate - upLeft)];
  if (toLeft <= toUp && toLeft <= toUpLeft) return left;
  return toUp <= toUpLeft ? up : upLeft;
}
