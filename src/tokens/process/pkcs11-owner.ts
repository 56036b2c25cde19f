import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CustodyEntry } from '../custody/package.js';
import { HsmError, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import { destroyLaterKey, makeLaterKey } from '../pkcs11/ceremony.js';
import { KEY, Pkcs11Module, type TokenSession } from '../pkcs11/module.js';
import { Pkcs11Hsm, type Pkcs11Token } from '../pkcs11/pkcs11-hsm.js';
import { LABEL, numbersOf, type Serving } from '../pkcs11/token-keys.js';
import type { ModuleOwner } from './keeper.js';
import type { TokenSettings } from './settings.js';
import { CANARY_FILE } from './token-state.js';

/** The one who initialises a PKCS#11 module and logs in, for all threads of this process: both are of the process, not of a thread. */
export class Pkcs11Owner implements ModuleOwner {
  readonly #pin: string;
  #module: Pkcs11Module | undefined;

  constructor(
    private readonly settings: TokenSettings,
    private readonly token: Omit<Pkcs11Token, 'canary' | 'serving'>,
    pin: string,
    private readonly serving: () => Serving,
  ) {
    this.#pin = pin;
    // SoftHSM asks the environment of the process where its tokens are. Only the main thread's assignment reaches it.
    if (settings.softhsmConfig) process.env['SOFTHSM2_CONF'] = settings.softhsmConfig;
  }

  begin(): void {
    if (this.#module) this.#module.initialise();
    else this.#module = new Pkcs11Module(this.settings.module);
    const info = this.#module.tokenInfo(this.settings.label);
    if (info?.pinLocked)
      throw new HsmError('pin-refused', `the token ${this.settings.label} has locked its PIN: its security officer must set a new one`);
    if (info?.pinCountLow) process.stderr.write(`the token ${this.settings.label} says that a wrong PIN was given before\n`);
    // Stays open, and with it the login.
    const session = this.#module.openSession(this.settings.label);
    try {
      session.login(this.#pin);
    } catch (error) {
      if (!(error instanceof HsmError) || error.code !== 'pin-refused') throw error;
      const { pinFile, label } = this.settings;
      throw new HsmError(
        'pin-refused',
        pinFile === undefined
          ? `this PIN is not that of the token ${label} (${error.message}). It was tried once`
          : `the PIN in ${pinFile} is not that of the token ${label} (${error.message}). It was tried once and is not tried again: put the right one there, then start`,
      );
    }
  }

  end(): void {
    try {
      this.#module?.finalise();
    } catch {
      // A token that went away may refuse even this; initialising decides.
    }
  }

  /**
   * A session of the main thread's own.
   * @param serving other keys than those in service
   */
  session(serving: Serving = this.serving()): Pkcs11Hsm {
    if (!this.#module) throw new Error('begin() comes first');
    // A rotation may have wrapped the canary anew since.
    return new Pkcs11Hsm(this.#module, {
      ...this.token,
      canary: readFileSync(join(this.settings.state, CANARY_FILE)),
      serving,
    });
  }

  destroyKek(id: string): void {
    this.#with((session) => {
      for (const kek of session.find({ ...KEY.aes, token: true, label: LABEL.kek(id) })) session.destroy(kek);
    });
  }

  /** Makes a signing key beside the one that serves, in the place of one that a cut attempt left. */
  makeKey(key: { name: SigningKeyName; n: number; algorithm: SigningAlgorithm }, custodyKey?: Buffer): CustodyEntry | undefined {
    return this.#with((session) => {
      destroyLaterKey(session, key.name, key.n);
      return makeLaterKey(session, this.token.profile, custodyKey, key);
    });
  }

  destroyKey(name: SigningKeyName, n: number): void {
    this.#with((session) => destroyLaterKey(session, name, n));
  }

  /** Which keys of this name the token holds, oldest first. */
  numbersOf(name: SigningKeyName): number[] {
    return this.#with((session) => numbersOf(session, name));
  }

  #with<T>(use: (session: TokenSession) => T): T {
    if (!this.#module) throw new Error('begin() comes first');
    const session = this.#module.openSession(this.settings.label);
    try {
      return use(session);
    } finally {
      session.close();
    }
  }
}
