import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** Offsets in `struct plan` of fatal-steps.c. */
const FIELD = { armed: 0, count: 4, at: 8, alone: 12, fired: 16 } as const;
const BYTES = 20;

/** A way in which a process changes what lies on disk: who, how, which file; names that differ from run to run are told as `*`. */
export type Step = string;

/** Ends a whole appliance, or one of its processes, between two steps that change its disk (fatal-steps.c, preloaded). */
export class FatalSteps {
  readonly #plan: string;
  readonly #library: string;
  readonly #under: string;

  /** @param folder where library, plan and the list of steps lie; not below `under` */
  constructor(folder: string, under: string) {
    this.#under = under;
    this.#plan = join(folder, 'fatal-plan');
    this.#library = join(folder, 'fatal-steps.so');
    if (!existsSync(this.#library)) {
      const source = resolve(import.meta.dirname, 'fatal-steps.c');
      execFileSync(process.env['CC'] ?? 'cc', ['-O2', '-shared', '-fPIC', '-o', this.#library, source, '-ldl']);
    }
    writeFileSync(this.#plan, Buffer.alloc(BYTES));
  }

  get environment(): NodeJS.ProcessEnv {
    // Rings of the kernel would take steps that no library sees.
    return { LD_PRELOAD: this.#library, EKMS_FATAL_PLAN: this.#plan, EKMS_FATAL_UNDER: this.#under, UV_USE_IO_URING: '0' };
  }

  /** From now on steps count. @param at the one before which it ends; 0: count only */
  arm(at: number, alone = false): void {
    writeFileSync(`${this.#plan}.log`, ''); // the same file: they have it open
    const bytes = Buffer.alloc(BYTES);
    bytes.writeInt32LE(at, FIELD.at);
    bytes.writeInt32LE(Number(alone), FIELD.alone);
    bytes.writeInt32LE(1, FIELD.armed);
    writeFileSync(this.#plan, bytes, { flag: 'r+' }); // in place: the processes have it mapped
  }

  disarm(): void {
    writeFileSync(this.#plan, Buffer.alloc(BYTES), { flag: 'r+' });
  }

  /** Number of the step before which a process ended; undefined when none did. */
  get fired(): Step | undefined {
    const bytes = readFileSync(this.#plan);
    return bytes.readInt32LE(FIELD.fired) === 1 ? this.taken()[bytes.readInt32LE(FIELD.at) - 1] : undefined;
  }

  /** The steps since it was armed, in their order. */
  taken(): Step[] {
    const path = `${this.#plan}.log`;
    if (!existsSync(path)) return [];
    const steps: Step[] = [];
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      const [, n, program, call, file] = /^(\d+) (\S+) (\S+) (.*)$/.exec(line) ?? [];
      if (n !== undefined && call && file !== undefined) steps[Number(n) - 1] = `${program} ${call} ${nameless(file)}`;
    }
    return steps;
  }
}

const nameless = (path: string): string =>
  path
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '*')
    .replaceAll(/\d{8}T\d{9}Z-[0-9a-f]{8}/g, '*')
    .replaceAll(/\d{6,}/g, '*');
