import { type Clock, Fault } from '../../foundation/index.js';
import { certifyDelivery } from '../authorities.js';
import { type CustodyPackage, encodePackage, packageMacInput, parsePackage } from '../custody/package.js';
import { type Hsm, SIGNING_KEYS } from '../hsm.js';
import { LABEL, type Serving } from '../pkcs11/token-keys.js';
import type { AuthorityUrls, SuccessorName, TokenKeyInfo } from '../token.js';
import { sealedPackage } from './custody-file.js';
import type { Pkcs11Owner } from './pkcs11-owner.js';
import type { TokenSettings } from './settings.js';
import { CUSTODY_FILE, keysInForce, replaceState, type TokenState } from './token-state.js';

export interface SuccessorParts {
  settings: TokenSettings;
  owner: Pkcs11Owner;
  state: TokenState;
  clock: Clock;
  /** Nobody else changes keys or package meanwhile. */
  alone: <T>(act: () => Promise<T>) => Promise<T>;
  /** Has every session find the keys anew. */
  refresh: () => Promise<void>;
}

/**
 * Signing keys that take over from one another (docs/adr/0070). One line of the journal puts the next into service, with its certificate; before that line
 * the custodians have their copy of it, and what a cut attempt left is made anew.
 */
export class SuccessorKeys {
  constructor(private readonly parts: SuccessorParts) {}

  list(): TokenKeyInfo[] {
    const { owner, state } = this.parts;
    const { serving } = keysInForce(state);
    return SIGNING_KEYS.map((name) => {
      const n = serving[name] ?? 1;
      return { name, n, former: owner.numbersOf(name).filter((each) => each < n) };
    });
  }

  /** Told again with the same number it has been done. Codes `key-number`, and `custody-package-forged`. */
  succeed(name: SuccessorName, n: number, urls: AuthorityUrls): Promise<{ publicKey: Buffer }> {
    return this.parts.alone(() => this.#succeed(name, n, urls));
  }

  async #succeed(name: SuccessorName, n: number, urls: AuthorityUrls): Promise<{ publicKey: Buffer }> {
    const { state, clock } = this.parts;
    const { serving, authorities } = keysInForce(state);
    const now = serving[name] ?? 1;
    if (now !== n) {
      if (n !== now + 1) throw new Fault('conflict', 'key-number', `the ${name} key in service is number ${now}`);
      await this.#make(name, n);
      const certificate =
        name === 'delivery'
          ? await this.#during({ ...serving, [name]: n }, (hsm) => certifyDelivery(hsm, authorities.infrastructure, urls, clock.now()))
          : undefined;
      await state.journal.succeed({ name, n, ...(certificate ? { certificate } : {}) });
      await this.parts.refresh();
    }
    return this.#with(keysInForce(state).serving, (hsm) => ({ publicKey: hsm.publicKey(name) }));
  }

  /** Destroys those that were replaced, and the custodians' copies of them: nothing is ever signed by them again. Resolves with their numbers. */
  retire(name: SuccessorName): Promise<{ destroyed: number[] }> {
    return this.parts.alone(async () => {
      const { owner, state } = this.parts;
      const n = keysInForce(state).serving[name] ?? 1;
      const former = owner.numbersOf(name).filter((each) => each < n);
      this.#changePackage((keys) => keys.filter(({ label }) => !former.some((each) => LABEL.signing(name, each) === label)));
      for (const each of former) owner.destroyKey(name, each);
      return { destroyed: former };
    });
  }

  /** In the token, and wrapped for the custodians in their package. */
  async #make(name: SuccessorName, n: number): Promise<void> {
    const { owner } = this.parts;
    const { algorithm, custodyKey } = this.#with(undefined, (hsm) => ({
      algorithm: hsm.algorithm(name),
      custodyKey: this.#package(hsm)?.custodyKey.publicKey,
    }));
    const entry = owner.makeKey({ name, n, algorithm }, custodyKey);
    if (entry) this.#changePackage((keys) => [...keys.filter(({ label }) => label !== entry.label), entry]);
  }

  #package(hsm: Hsm): CustodyPackage | undefined {
    const text = sealedPackage(hsm, this.parts.settings.state);
    return text === null ? undefined : parsePackage(text).package;
  }

  #changePackage(change: (keys: CustodyPackage['keys']) => CustodyPackage['keys']): void {
    this.#with(undefined, (hsm) => {
      const before = this.#package(hsm);
      if (!before) return;
      const next = { ...before, keys: change(before.keys) };
      replaceState(
        this.parts.settings.state,
        CUSTODY_FILE,
        Buffer.from(encodePackage({ package: next, mac: hsm.mac(packageMacInput(next)) })),
      );
    });
  }

  async #during<T>(serving: Serving, use: (hsm: Hsm) => Promise<T>): Promise<T> {
    const hsm = this.parts.owner.session(serving);
    try {
      return await use(hsm);
    } finally {
      hsm.close();
    }
  }

  #with<T>(serving: Serving | undefined, use: (hsm: Hsm) => T): T {
    const hsm = this.parts.owner.session(serving);
    try {
      return use(hsm);
    } finally {
      hsm.close();
    }
  }
}
