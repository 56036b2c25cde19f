import { Fault } from '../../../foundation/index.js';

/** ISO 32000-2 Table 24, by bit value. `owner` may do everything and change the encryption. */
const BITS = {
  print: 1 << 2,
  'print-high': 1 << 11,
  change: 1 << 3,
  copy: 1 << 4,
  annotate: 1 << 5,
  fill: 1 << 8,
  accessibility: 1 << 9,
  assemble: 1 << 10,
} as const;
export type Permission = keyof typeof BITS;
const PERMISSIONS = Object.keys(BITS) as Permission[];

const OWNER = 1 << 1;
/** Bit 1 and the reserved high bits stand as iText and Acrobat write them. */
const BASE = 0xfffff0c1 | 0;

/** What people choose from. Readers keep to these; nothing enforces them against a program that does not. */
const PRESETS = {
  full: 'owner',
  read: ['accessibility'],
  print: ['accessibility', 'print', 'print-high'],
  'fill-in': ['accessibility', 'print', 'print-high', 'fill'],
  comment: ['accessibility', 'print', 'print-high', 'fill', 'annotate', 'copy'],
} as const satisfies Record<string, 'owner' | readonly Permission[]>;
export type Preset = keyof typeof PRESETS;
const PRESET_NAMES = Object.keys(PRESETS) as Preset[];

/** The 32 bits of a permission set. */
export function permissionBits(allowed: 'owner' | readonly Permission[]): number {
  if (allowed === 'owner') return BASE | OWNER | Object.values(BITS).reduce((all, bit) => all | bit, 0);
  return allowed.reduce((bits, permission) => bits | BITS[permission], BASE);
}

/** What 32 bits allow. */
export function permissionsOf(bits: number): { isOwner: boolean; allowed: Permission[] } {
  const isOwner = (bits & OWNER) !== 0;
  return { isOwner, allowed: PERMISSIONS.filter((permission) => isOwner || (bits & BITS[permission]) !== 0) };
}

/** Throws `permissions-unknown`. Takes a preset's name, or permissions with commas between. */
export function parsePermissions(text: string): 'owner' | readonly Permission[] {
  if (Object.hasOwn(PRESETS, text)) return PRESETS[text as Preset];
  const words = text.split(',').map((word) => word.trim());
  const unknown = words.find((word) => !Object.hasOwn(BITS, word));
  if (unknown !== undefined)
    throw new Fault(
      'malformed',
      'permissions-unknown',
      `"${unknown}" is no permission: give one of ${PRESET_NAMES.join(', ')}, or some of ${PERMISSIONS.join(', ')} with commas between`,
    );
  return words as Permission[];
}
