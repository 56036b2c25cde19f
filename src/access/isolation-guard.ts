import { type AuditLog, Fault, type Storage } from '../foundation/index.js';
import { AddressBlocks, plainAddress, readBlock } from './address-blocks.js';
import type { NetworkPolicy, RouteClass } from './network-policy.js';
import type { Surroundings } from './surroundings.js';

/** Something that leads out of the isolated network, and what to do about it. */
export interface IsolationFinding {
  check: 'default-route' | 'outside-route' | 'outside-address' | 'canary-answers' | 'name-resolves' | 'not-looked-at';
  words: string;
}

/** Links and groups: what they hold never leaves the link that it is on. */
const LINK = AddressBlocks.of(['169.254.0.0/16', 'fe80::/10', '224.0.0.0/4', 'ff00::/8']);
/** Where keys leave. */
const KEYS: readonly RouteClass[] = ['client', 'staff'];

/**
 * Looks whether this machine is as isolated as it must be: at start, and every few minutes. By `isolation.mode: warn` it says what it finds; by `enforce`
 * nothing is served to clients and staff while it finds anything, and the appliance does not start.
 */
export class IsolationGuard {
  #findings: IsolationFinding[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly surroundings: Surroundings,
    private readonly policy: () => NetworkPolicy,
    private readonly log: { storage: Storage; audit: AuditLog },
  ) {}

  /** Of the last look. */
  get findings(): readonly IsolationFinding[] {
    return this.#findings;
  }

  get mode(): 'warn' | 'enforce' {
    return this.policy().document.isolation.mode;
  }

  /** True while keys must not leave. */
  get isBroken(): boolean {
    return this.mode === 'enforce' && this.#findings.length > 0;
  }

  /** Throws `isolation-broken` for a route whose answers may hold keys while they must not leave. */
  require(kind: RouteClass): void {
    if (this.isBroken && KEYS.includes(kind))
      throw new Fault('unavailable', 'isolation-broken', 'this appliance serves no keys: it is not isolated; its operator is told why', 60);
  }

  /**
   * Looks once and then every `isolation.minutes`, until `stop`. Rejects with `isolation-broken` when the first look finds something and the mode is `enforce`.
   * @param tell hears each new finding and the end of all
   */
  async start(tell: (line: string) => void, defect: (error: unknown) => void): Promise<void> {
    await this.#lookAndTell(tell);
    if (this.isBroken) {
      const found = this.#findings.map(({ words }) => `\n  ${words}`).join('');
      throw new Fault('misconfigured', 'isolation-broken', `this machine is not isolated, and isolation.mode is enforce:${found}`);
    }
    const again = () => {
      this.#timer = setTimeout(
        () => void this.#lookAndTell(tell).catch(defect).finally(again),
        this.policy().document.isolation.minutes * 60_000,
      );
    };
    again();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** What can be found now. Never rejects: what could not be looked at is a finding. */
  async look(): Promise<IsolationFinding[]> {
    const { internal, document } = this.policy();
    const inside = internal.or(LINK);
    const { canaries, names } = document.isolation;
    const found = await Promise.all([
      this.#tried('routes', async () =>
        (await this.surroundings.routes()).flatMap(({ block, device }): IsolationFinding[] => {
          if (inside.covers(AddressBlocks.of([block]))) return [];
          return block.endsWith('/0')
            ? [
                {
                  check: 'default-route',
                  words: `there is a default route (${readBlock(block)}) on ${device}: remove it, or route only what network.internal names`,
                },
              ]
            : [
                {
                  check: 'outside-route',
                  words: `there is a route to ${readBlock(block)} on ${device}, beyond network.internal: remove it, or name the block there`,
                },
              ];
        }),
      ),
      this.#tried('addresses', async () =>
        this.surroundings
          .addresses()
          .filter(({ address }) => !inside.has(plainAddress(address)))
          .map(({ address, device }) => ({
            check: 'outside-address',
            words: `${device} has the address ${address}, beyond network.internal: take it away, or name its network there`,
          })),
      ),
      ...canaries.map((endpoint) =>
        this.#tried(endpoint, async () =>
          (await this.surroundings.reaches(endpoint))
            ? [
                {
                  check: 'canary-answers',
                  words: `${endpoint} answers: something lets this machine out; close it at the firewall (ekms firewall print)`,
                },
              ]
            : [],
        ),
      ),
      ...names.map((name) =>
        this.#tried(name, async () =>
          (await this.surroundings.resolves(name))
            ? [{ check: 'name-resolves', words: `the resolver answers for ${name}: use one that knows the intranet only` }]
            : [],
        ),
      ),
    ]);
    return found.flat();
  }

  async #tried(what: string, look: () => Promise<IsolationFinding[]>): Promise<IsolationFinding[]> {
    try {
      return await look();
    } catch (error) {
      return [{ check: 'not-looked-at', words: `${what} could not be looked at: ${(error as Error).message}` }]; // the system's own, with a code
    }
  }

  async #lookAndTell(tell: (line: string) => void): Promise<void> {
    const before = new Set(this.#findings.map(({ words }) => words));
    this.#findings = await this.look();
    const isNew = this.#findings.filter(({ words }) => !before.has(words));
    for (const { words } of isNew) tell(`isolation: ${words}`);
    if (before.size > 0 && this.#findings.length === 0) tell('isolation: nothing is found any more');
    if (isNew.length === 0 && before.size === this.#findings.length) return;
    const { storage, audit } = this.log;
    await storage.write((unit) =>
      audit.append(unit, {
        action: 'isolation.find',
        outcome: 'done',
        actor: { kind: 'system' },
        facts: { findings: this.#findings.length, mode: this.mode },
      }),
    );
  }
}
