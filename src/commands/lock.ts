import { join } from 'node:path';
import { holdAlone } from '../storage/index.js';

/** One process at a time works on a home. Throws `home-in-use`. */
export const lockHome = (home: string): (() => void) => holdAlone(join(home, 'run', 'lock'), home);
