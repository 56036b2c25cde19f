import type { IncomingHttpHeaders } from 'node:http';
import { Fault } from '../foundation/index.js';

/** Listeners whose callers are people with browsers; each has sessions of its own. */
export type Audience = 'administration' | 'staff';

/** Under which origin (RFC 6454) the pages of each listener are reached, and whether a request comes from them. */
export class Origins {
  readonly #of: Record<Audience, string>;

  /** @param given origins that ekms.yaml names, for sites where another port leads to the listener; else the listener's own counts */
  constructor(
    readonly publicName: string,
    ports: Record<Audience, number>,
    private readonly given: Partial<Record<Audience, string | undefined>> = {},
  ) {
    this.#of = { administration: this.#origin('administration', ports.administration), staff: this.#origin('staff', ports.staff) };
  }

  /** The listener got this port: another than ekms.yaml names where that says 0. */
  opened(audience: Audience, port: number): void {
    this.#of[audience] = this.#origin(audience, port);
  }

  of(audience: Audience): string {
    return this.#of[audience];
  }

  /**
   * Refuses what another site, or another port of this host, made a browser send (`cross-site`). Cookies do not know ports and SameSite
   * knows no origins, so the cookie alone proves nothing. Whatever changes something must say where it comes from.
   */
  requireOwn(audience: Audience, method: string, headers: IncomingHttpHeaders): void {
    const { origin } = headers;
    const site = headers['sec-fetch-site'];
    const reads = method === 'GET';
    const fits =
      (origin === undefined || origin === this.of(audience)) &&
      (site === undefined || site === 'same-origin' || (reads && site === 'none')) &&
      (reads || origin !== undefined || site !== undefined);
    if (!fits) throw new Fault('forbidden', 'cross-site', `this is done from the appliance's own pages, ${this.of(audience)}`);
  }

  #origin(audience: Audience, port: number): string {
    return new URL(this.given[audience] ?? `https://${this.publicName}:${port}`).origin;
  }
}
