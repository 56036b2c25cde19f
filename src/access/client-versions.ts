import { Fault } from '../foundation/index.js';

/** `1.4.0`: up to four numbers. What follows a `-` or `+` (a build, a pre-release) does not count. */
export const VERSION = /^\d{1,6}(\.\d{1,6}){0,3}([-+][0-9A-Za-z.+-]{1,32})?$/;

const numbers = (version: string): number[] => (version.split(/[-+]/)[0] ?? '').split('.').map(Number);

/** -1, 0 or 1, as `a` is older than, as old as or newer than `b`. */
function compareVersions(a: string, b: string): number {
  const [left, right] = [numbers(a), numbers(b)];
  for (let at = 0; at < 4; at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

/** The oldest client that is served, by platform. A client says its version itself: this keeps old ones away, not dishonest ones. */
export class ClientVersions {
  constructor(private readonly minimums: Readonly<Record<string, { minimum: string }>>) {}

  /** Throws `client-too-old`; also for a client that does not say. */
  require(platform: string, version: string | undefined): void {
    const minimum = Object.hasOwn(this.minimums, platform) ? this.minimums[platform]?.minimum : undefined;
    if (minimum === undefined) return;
    if (version === undefined || !VERSION.test(version) || compareVersions(version, minimum) < 0)
      throw new Fault('forbidden', 'client-too-old', `this client is too old: version ${minimum} is the oldest that is served; update it`);
  }
}
