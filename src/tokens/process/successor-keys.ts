import { z } from 'zod';
import { hashLeaf, noteKeyDigest, verifyInclusion } from '../../codec/merkle/index.js';
import { type Clock, Fault } from '../../foundation/index.js';
import { authorityId, certifyAuthority, certifyDelivery, issuerAmong, urlsOf } from '../authorities.js';
import { type CustodyPackage, encodePackage, packageMacInput, parsePackage } from '../custody/package.js';
import { type Hsm, SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import { hashOf, logKey, signedCheckpoint, signedSuccession, treeHead } from '../log-signatures.js';
import { LABEL, type Serving } from '../pkcs11/token-keys.js';
import type { AuditHead, AuthorityUrls, RetiredName, SucceedingAuthority, SuccessorName, TokenKeyInfo } from '../token.js';
import { sealedPackage } from './custody-file.js';
import type { Pkcs11Owner } from './pkcs11-owner.js';
import type { TokenSettings } from './settings.js';
import { CUSTODY_FILE, keysInForce, replaceState, type TokenState } from './token-state.js';

/** Whoever makes and destroys signing keys, and opens sessions with others in service. */
export type KeyOwner = Pick<Pkcs11Owner, 'makeKey' | 'destroyKey' | 'numbersOf'> & { session(serving?: Serving): Hsm };

export interface SuccessorParts {
  settings: Pick<TokenSettings, 'state'>;
  owner: KeyOwner;
  state: TokenState;
  clock: Clock;
  /** Nobody else changes keys or package meanwhile. */
  alone: <T>(act: () => Promise<T>) => Promise<T>;
  /** Has every session find the keys anew. */
  refresh: () => Promise<void>;
}

interface Announcement {
  index: number;
  entry: string;
  proof: Buffer[];
}

/** The log itself says who is to sign it: whoever asks without that gets nothing. */
function requireAnnounced(head: AuditHead, { index, entry, proof }: Announcement, digest: string): void {
  const isOfTheLog = index < head.size && verifyInclusion(hashOf, index, hashLeaf(hashOf, Buffer.from(entry)), treeHead(head), proof);
  const said = isOfTheLog ? announcement.safeParse(JSON.parse(entry)) : undefined;
  if (said?.data?.facts.key !== digest)
    throw new Fault('forbidden', 'key-not-announced', 'the log that was signed last does not announce this key');
}

const announcement = z.object({ action: z.literal('audit.key'), outcome: z.literal('done'), facts: z.object({ key: z.string() }) });

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
      const since = state.journal.successions.findLast((each) => each.name === name)?.time;
      return { name, n, former: owner.numbersOf(name).filter((each) => each < n), ...(since === undefined ? {} : { since }) };
    });
  }

  /** Told again it is the same one: what the custodians hold is what will serve. Code `key-number`. */
  prepareAuthority(name: SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<void> {
    return this.parts.alone(async () => {
      const now = keysInForce(this.parts.state).serving[name] ?? 1;
      if (n !== now && n !== now + 1) throw new Fault('conflict', 'key-number', `the ${name} key in service is number ${now}`);
      if (n === now + 1 && this.#with(undefined, (hsm) => this.#package(hsm))) await this.#prepared(name, n, urls);
    });
  }

  /** Resolves with the certificate of the n-th generation, whose key is in the token; where there are custodians, they hold both. */
  async #prepared(name: SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<Buffer> {
    const label = LABEL.signing(name, n);
    const held = this.#with(undefined, (hsm) => this.#package(hsm))?.keys.find((entry) => entry.label === label);
    if (held?.certificate && this.#isWhole(name, n)) return held.certificate;
    this.#make(name, n);
    const certificate = await this.#certify(name, n, urls);
    this.#changePackage((keys) => keys.map((entry) => (entry.label === label ? { ...entry, certificate } : entry)));
    return certificate;
  }

  /** Told again with the same number it has been done. Codes `key-number`, and `custody-package-forged`. */
  succeed(name: SuccessorName | SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<{ publicKey: Buffer }> {
    return this.parts.alone(() => this.#succeed(name, n, urls));
  }

  async #succeed(name: SuccessorName | SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<{ publicKey: Buffer }> {
    const { state } = this.parts;
    const { serving } = keysInForce(state);
    const now = serving[name] ?? 1;
    if (now !== n) {
      if (n !== now + 1) throw new Fault('conflict', 'key-number', `the ${name} key in service is number ${now}`);
      const certificate = await this.#made(name, n, urls);
      await state.journal.succeed({ name, n, ...(certificate ? { certificate } : {}) });
    }
    await this.#inForce();
    return this.#with(keysInForce(state).serving, (hsm) => ({ publicKey: hsm.publicKey(name) }));
  }

  /** Resolves with its certificate, where it has one. */
  async #made(name: SuccessorName | SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<Buffer | undefined> {
    if (name !== 'delivery' && name !== 'mail') return this.#prepared(name, n, urls);
    this.#make(name, n);
    return name === 'delivery' ? this.#certify(name, n, urls) : undefined;
  }

  /** The n-th key of this name, by the authority above it that serves. */
  #certify(name: 'delivery' | SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<Buffer> {
    const { state, clock } = this.parts;
    const { serving, authorities } = keysInForce(state);
    return this.#during({ ...serving, [name]: n }, (hsm) =>
      name === 'delivery'
        ? certifyDelivery(hsm, authorities.infrastructure, urlsOf(urls, serving.infrastructure ?? 1), clock.now())
        : certifyAuthority(hsm, { name, n, before: authorities[name], root: authorities.root }, urls, clock.now()),
    );
  }

  /**
   * First it is written down that nothing of it is trusted: whatever is cut after that, it stays so. Then every session hears of it, and its key goes.
   */
  retireAuthority(name: SucceedingAuthority, n: number): Promise<void> {
    return this.parts.alone(async () => {
      const { state } = this.parts;
      const { generations, authorities } = keysInForce(state);
      const authority = generations.find((each) => each.name === name && each.n === n);
      if (!authority) throw new Fault('not-found', 'authority-unknown', `there is no authority ${authorityId({ name, n })}`);
      if (authority.state === 'serving')
        throw new Fault('conflict', 'authority-in-use', `${authorityId(authority)} serves: rotate it first`);
      if (issuerAmong([authority], authorities.delivery))
        throw new Fault('conflict', 'authority-in-use', `${authorityId(authority)} certifies the delivery key: rotate that first`);
      await state.journal.retire({ name, n });
      await this.#inForce();
      this.#destroy(name, [n]);
    });
  }

  /** Also for who asks again: the time before, the disk was full or the token away. */
  async #inForce(): Promise<void> {
    await this.parts.state.journal.settled();
    await this.parts.refresh();
  }

  /** Makes the next key of the log, if it is not there yet. */
  prepareAudit(n: number): Promise<{ algorithm: SigningAlgorithm; publicKey: Buffer }> {
    return this.parts.alone(async () => {
      const { serving } = keysInForce(this.parts.state);
      const now = serving.audit ?? 1;
      if (n !== now && n !== now + 1) throw new Fault('conflict', 'key-number', `the key of the log in service is number ${now}`);
      // Announced by its digest, so the one that was made stays.
      if (n === now + 1 && !this.#isWhole('audit', n)) this.#make('audit', n);
      return this.#with({ ...serving, audit: n }, (hsm) => ({ algorithm: hsm.algorithm('audit'), publicKey: hsm.publicKey('audit') }));
    });
  }

  /** The last head that was signed must cover the entry that announces the next key; then both sign that it takes over. */
  succeedAudit(n: number, head: AuditHead, announcement: Announcement): Promise<string> {
    return this.parts.alone(async () => {
      const { state } = this.parts;
      const { serving } = keysInForce(state);
      const now = serving.audit ?? 1;
      if (now !== n) {
        if (n !== now + 1) throw new Fault('conflict', 'key-number', `the key of the log in service is number ${now}`);
        const note = this.#with(serving, (former) =>
          this.#with({ ...serving, audit: n }, (successor) => {
            requireAnnounced(head, announcement, noteKeyDigest(hashOf, logKey(successor, head.origin)));
            return signedSuccession(former, successor, head);
          }),
        );
        await state.journal.succeedHead(head, now, { name: 'audit', n, note });
      }
      await this.#inForce();
      const last = state.journal.auditHead;
      if (!last) throw new Fault('conflict', 'head-stale', 'no head of the log was signed yet');
      return this.#with(keysInForce(state).serving, (hsm) => signedCheckpoint(hsm, last));
    });
  }

  /** Destroys those that were replaced, and the custodians' copies of them: nothing is ever signed by them again. Resolves with their numbers. */
  retire(name: RetiredName): Promise<{ destroyed: number[] }> {
    return this.parts.alone(async () => {
      const { owner, state } = this.parts;
      const n = keysInForce(state).serving[name] ?? 1;
      const former = owner.numbersOf(name).filter((each) => each < n);
      this.#destroy(name, former);
      return { destroyed: former };
    });
  }

  #destroy(name: SigningKeyName, numbers: readonly number[]): void {
    this.#changePackage((keys) => keys.filter(({ label }) => !numbers.some((each) => LABEL.signing(name, each) === label)));
    for (const each of numbers) this.parts.owner.destroyKey(name, each);
  }

  /** In the token, and wrapped for the custodians in their package. */
  #make(name: SigningKeyName, n: number): void {
    const { owner } = this.parts;
    const { algorithm, custodyKey } = this.#with(undefined, (hsm) => ({
      algorithm: hsm.algorithm(name),
      custodyKey: this.#package(hsm)?.custodyKey.publicKey,
    }));
    const entry = owner.makeKey({ name, n, algorithm }, custodyKey);
    if (entry) this.#changePackage((keys) => [...keys.filter(({ label }) => label !== entry.label), entry]);
  }

  /** The pair is in the token, and the custodians, where there are some, hold it. */
  #isWhole(name: SigningKeyName, n: number): boolean {
    const { owner, state } = this.parts;
    if (!owner.numbersOf(name).includes(n)) return false;
    return this.#with({ ...keysInForce(state).serving, [name]: n }, (hsm) => {
      const held = this.#package(hsm)?.keys;
      return !held || held.some(({ label, publicKey }) => label === LABEL.signing(name, n) && publicKey?.equals(hsm.publicKey(name)));
    });
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
