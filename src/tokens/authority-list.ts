import { type Clock, Fault } from '../foundation/index.js';
import { authorityId, issuerAmong } from './authorities.js';
import { AUTHORITY_NAMES, type Authority, type AuthorityName, type Token } from './token.js';

/** Milliseconds between two looks that strangers may cause. */
const LOOK_EVERY_MS = 5_000;

/**
 * The authorities as this process knows them: asked of the token process at the start, after each act that changes them, every half minute (another node may have done it),
 * and when something was signed by one that is not known.
 */
export class Authorities {
  #all: readonly Authority[] = [];
  /** By what `authorityId` calls them. */
  #named: ReadonlyMap<string, Authority> = new Map();
  #trusted: ReadonlyMap<AuthorityName, readonly Buffer[]> = new Map();
  #looked = Number.NEGATIVE_INFINITY;
  readonly #followers = new Set<() => void>();

  private constructor(
    private readonly token: Pick<Token, 'authorities'>,
    private readonly clock: Clock,
  ) {}

  static async open(token: Pick<Token, 'authorities'>, clock: Clock): Promise<Authorities> {
    const authorities = new Authorities(token, clock);
    await authorities.refresh();
    return authorities;
  }

  /** Every generation; of one name the oldest first. */
  get all(): readonly Authority[] {
    return this.#all;
  }

  /** DER. There is one for as long as the appliance lives. */
  get root(): Buffer {
    return this.serving('root').certificate;
  }

  serving(name: AuthorityName): Authority {
    const serving = this.of(name).find(({ state }) => state === 'serving');
    if (!serving) throw new Error(`no authority ${name} serves`);
    return serving;
  }

  of(name: AuthorityName): readonly Authority[] {
    return this.#all.filter((each) => each.name === name);
  }

  /** DER of those whose certificates count here: the very same buffers until one comes or goes, for this is asked at each request. */
  trusted(name: AuthorityName): readonly Buffer[] {
    return this.#trusted.get(name) ?? [];
  }

  /** By what `authorityId` calls it. */
  async find(id: string): Promise<Authority | undefined> {
    if (!this.#named.has(id)) await this.look();
    return this.#named.get(id);
  }

  /** Who signed this certificate (DER); undefined for one that is not of this appliance. Only for what the appliance holds itself: one that is not known is asked for each time. */
  async issuerOf(der: Uint8Array): Promise<Authority | undefined> {
    const known = issuerAmong(this.#all, der);
    if (known) return known;
    await this.refresh();
    return issuerAmong(this.#all, der);
  }

  /** Who signed what the token just gave (DER). Another issuer's certificate above it would make everybody refuse it, so: rejects with `issuer-unknown`. */
  async signerOf(der: Uint8Array): Promise<Authority> {
    const signer = await this.issuerOf(der);
    if (!signer) throw new Fault('unavailable', 'issuer-unknown', 'the token signed by an authority that it does not tell of: ask again');
    return signer;
  }

  /** Asked right before a certificate (DER) is stored: after the last list of who signed it, nobody could revoke it. Rejects with `authority-retired`, `issuer-unknown`. */
  async requireRevocable(der: Uint8Array): Promise<void> {
    await this.refresh();
    const { state } = await this.signerOf(der);
    if (state === 'retired')
      throw new Fault('conflict', 'authority-retired', 'the authority that signed this was retired meanwhile: ask again');
  }

  /** As `refresh`, unless it was just done. */
  async look(): Promise<void> {
    if (Math.abs(this.clock.now().getTime() - this.#looked) >= LOOK_EVERY_MS) await this.refresh();
  }

  async refresh(): Promise<void> {
    // Before the answer: whoever asks while the token is away is not to ask it once more each.
    this.#looked = this.clock.now().getTime();
    const now = await this.token.authorities();
    const said = (all: readonly Authority[]) => all.map((each) => `${authorityId(each)} ${each.state}`).join();
    if (said(now) === said(this.#all)) return;
    this.#all = now;
    this.#named = new Map(now.map((each) => [authorityId(each), each]));
    const trustedOf = (name: AuthorityName) =>
      this.of(name).flatMap(({ state, certificate }) => (state === 'retired' ? [] : [certificate]));
    this.#trusted = new Map(AUTHORITY_NAMES.map((name) => [name, trustedOf(name)]));
    for (const told of this.#followers) told();
  }

  /** Has `told` called whenever another authority came or went. Resolves to what ends it. */
  follow(told: () => void): () => void {
    this.#followers.add(told);
    return () => this.#followers.delete(told);
  }
}
