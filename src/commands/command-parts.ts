import type { Installation } from '../house.js';
import type { ActName } from './acts.js';

/** What a group of commands gets from the program. */
export interface CommandParts {
  home: () => string;
  installation: Installation;
  print: (value: unknown) => void;
  act: (name: ActName, args: object) => Promise<unknown>;
  /** One act of a long run, by the running appliance only (`askRunning`). */
  ask: (name: ActName, args: object) => Promise<unknown>;
  does: (name: ActName) => (args: object) => Promise<void>;
}
