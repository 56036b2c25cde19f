import { spawn } from 'node:child_process';
import { Fault } from '../../foundation/index.js';
import { type CustodyPackage, encodePackage, keksOf, packageMacInput, parsePackage } from '../custody/package.js';
import { kekLabel } from '../hsm.js';
import { helperArguments, modulusOf } from '../pkcs11/ceremony.js';
import { loadProfile } from '../pkcs11/profile.js';
import { keksOfCustodians, sealedPackage } from './custody-file.js';
import type { Pkcs11Owner } from './pkcs11-owner.js';
import type { TokenSettings } from './settings.js';
import { CANARY_FILE, CUSTODY_FILE, replaceState } from './token-state.js';

/** Makes and ends KEKs of a token that serves. The PIN is the main thread's, and so is this. */
export class Keks {
  /**
   * @param refresh has every session find the keys anew
   * @param alone nobody else changes keys or package meanwhile
   */
  constructor(
    private readonly settings: TokenSettings,
    private readonly owner: Pkcs11Owner,
    private readonly pin: string,
    private readonly refresh: () => Promise<void>,
    private readonly alone: <T>(act: () => Promise<T>) => Promise<T>,
  ) {}

  rotate(): Promise<{ kek: string }> {
    return this.alone(() => this.#rotate());
  }

  destroy(kek: string): Promise<void> {
    return this.alone(() => this.#destroy(kek));
  }

  /** The custodians' copy is on the disk before the new KEK can serve: what a crash leaves without one is destroyed here, for nothing is under it. */
  async #rotate(): Promise<{ kek: string }> {
    const { kekHelper, state } = this.settings;
    if (kekHelper === undefined)
      throw new Fault('misconfigured', 'kek-helper-missing', 'the token process was not told where the key-making helper is');
    const hsm = this.owner.session();
    try {
      const text = sealedPackage(hsm, state);
      const custody = text === null ? undefined : parsePackage(text).package;
      const held = custody ? keksOf(custody) : [];
      for (const id of custody ? hsm.kekIds : []) if (!held.includes(id)) this.owner.destroyKek(id);
      const kek = String(Math.max(...[...hsm.kekIds, ...held].map(Number)) + 1);
      const label = kekLabel(kek);
      const blob = await this.#help(kekHelper, label, custody);
      if (custody) {
        const next: CustodyPackage = {
          ...custody,
          keys: [...custody.keys, { label, kind: 'kek', envelope: { key: Buffer.from(blob, 'hex') } }],
        };
        replaceState(this.settings.state, CUSTODY_FILE, Buffer.from(encodePackage({ package: next, mac: hsm.mac(packageMacInput(next)) })));
      }
      await this.refresh();
      return { kek };
    } finally {
      hsm.close();
    }
  }

  async #destroy(kek: string): Promise<void> {
    const hsm = this.owner.session();
    try {
      if (!hsm.kekIds.includes(kek)) throw new Fault('not-found', 'kek-unknown', `the token holds no key-encryption key ${kek}`);
      hsm.serveUnder(keksOfCustodians(hsm, this.settings.state));
      if (hsm.activeKek === kek) throw new Fault('conflict', 'kek-in-service', 'this is the key-encryption key in service');
      replaceState(this.settings.state, CANARY_FILE, hsm.renewedCanary());
    } finally {
      hsm.close();
    }
    await this.refresh();
    this.owner.destroyKek(kek);
    await this.refresh();
  }

  /** native/kek.c, without blocking those who are served meanwhile. */
  #help(helper: string, label: string, custody: CustodyPackage | undefined): Promise<string> {
    const { module, label: token, profiles, profile } = this.settings;
    const known = loadProfile(profiles, profile);
    const child = spawn(helper, [module, token, label, ...(custody ? ['backup', ...helperArguments(known)] : [])]);
    child.stdin.end([this.pin, ...(custody ? [modulusOf(custody.custodyKey.publicKey)] : [])].join('\n'));
    let out = '';
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    return new Promise((resolve, reject) => {
      child.once('error', (error) => reject(new Fault('misconfigured', 'kek-helper-missing', error.message)));
      child.once('close', (status) =>
        status === 0 ? resolve(out) : reject(new Fault('conflict', 'kek-not-made', said.trim() || `the helper ended with ${status}`)),
      );
    });
  }
}
