import { z } from 'zod';
import { Fault, isId } from '../../foundation/index.js';
import { auditHeadShape } from '../acceptance.js';
import { SIGNING_KEYS, type SigningAlgorithm, type SigningKeyName } from '../hsm.js';
import type { Journal, JournalClaim } from '../journal.js';
import {
  type AuditHead,
  type AuthorityUrls,
  RETIRED,
  type RetiredName,
  type SigningKeyInfo,
  SUCCEEDING_AUTHORITIES,
  SUCCESSORS,
  type SucceedingAuthority,
  type SuccessorName,
  type TokenFinding,
  type TokenHealth,
  type TokenKeyInfo,
} from '../token.js';
import { decodeBody, encodeBody } from './frames.js';
import type { KeysInForce } from './token-state.js';

/** What is asked of a warden. Bodies stay text until they are with it: whoever is between only passes them on. */
export interface Errand {
  op: string;
  body: string;
  /** Number of the pair to be made. */
  n?: number;
}

export interface Done {
  claims: JournalClaim[];
  body: string;
}

export interface DeskParts {
  journal: Journal;
  keys: () => KeysInForce;
  signingKeys: () => ReadonlyMap<SigningKeyName, SigningKeyInfo>;
  health: () => TokenHealth;
  judge: (errand: Errand) => Promise<Done>;
  /** Absent where KEKs cannot be changed: in a memory token. */
  keks?: { rotate(): Promise<{ kek: string }>; destroy(kek: string): Promise<void> };
  successors: {
    list(): TokenKeyInfo[];
    succeed(name: SuccessorName | SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<{ publicKey: Buffer }>;
    prepareAuthority(name: SucceedingAuthority, n: number, urls: AuthorityUrls): Promise<void>;
    retireAuthority(name: SucceedingAuthority, n: number): Promise<void>;
    prepareAudit(n: number): Promise<{ algorithm: SigningAlgorithm; publicKey: Buffer }>;
    succeedAudit(n: number, head: AuditHead, announcement: { index: number; entry: string; proof: Buffer[] }): Promise<string>;
    retire(name: RetiredName): Promise<{ destroyed: number[] }>;
  };
  /** What this process finds about itself, beside what the token says. */
  own?: readonly TokenFinding[];
}

/** Bytes of the journal in one answer. */
const JOURNAL_PART = 4 * 2 ** 20;
const paging = z.strictObject({ from: z.int().min(0), copy: z.int().min(0) });
const blocking = z.strictObject({ id: z.string().refine(isId) });
const kekNaming = z.strictObject({ kek: z.string().regex(/^[1-9]\d{0,5}$/) });
const retiring = z.strictObject({ name: z.enum(RETIRED) });
const numbering = z.strictObject({ n: z.int().min(2).max(100_000) });
const hash = z.instanceof(Uint8Array).transform((bytes) => Buffer.from(bytes));
const announcing = numbering.extend({
  head: auditHeadShape,
  announcement: z.strictObject({ index: z.int().min(0), entry: z.string().max(65_535), proof: z.array(hash).max(64) }),
});
const address = z.string().max(300);
const retiringAuthority = z.strictObject({ name: z.enum(SUCCEEDING_AUTHORITIES), n: z.int().min(1).max(100_000) });
const preparing = numbering.extend({
  name: z.enum(SUCCEEDING_AUTHORITIES),
  urls: z.strictObject({ crl: address, issuer: address }),
});
const succeeding = preparing.extend({ name: z.enum([...SUCCESSORS, ...SUCCEEDING_AUTHORITIES]) });
const logNaming = z.strictObject({ origin: auditHeadShape.shape.origin });
const naming = z.strictObject({ name: z.enum(SIGNING_KEYS) });

/** Answers every verb of `Token`: some by itself, the rest by a warden, whose answer leaves only when the journal has admitted its claims. */
export class Desk {
  #copy: Buffer = Buffer.alloc(0);
  #copies = 0;

  constructor(private readonly parts: DeskParts) {}

  #keks() {
    const { keks } = this.parts;
    if (!keks) throw new Fault('conflict', 'kek-fixed', 'the KEK of this token cannot be changed');
    return keks;
  }

  /** From 0: of a copy that is made then, and stays for the parts that follow. Somebody else's copy meanwhile ends this one by name. */
  #journalPart({ from, copy }: z.output<typeof paging>): { size: number; copy: number; bytes: Buffer } {
    if (from === 0) {
      this.#copy = this.parts.journal.copy();
      this.#copies++;
    } else if (copy !== this.#copies)
      throw new Fault('unavailable', 'journal-copied', 'another backup takes the journal of the token just now', 5);
    const { length: size } = this.#copy;
    const bytes = this.#copy.subarray(from, from + JOURNAL_PART);
    if (from + bytes.length >= size) this.#copy = Buffer.alloc(0);
    return { size, copy: this.#copies, bytes };
  }

  /** Verb and body in, body out. Rejects with a Fault, or with a defect. */
  async answer(op: string, body: string): Promise<string> {
    const { journal, keys, signingKeys, health, judge, successors, own = [] } = this.parts;
    switch (op) {
      case 'health':
        return encodeBody(health());
      case 'certificates':
        return encodeBody(keys().authorities);
      case 'authorities':
        await journal.settled();
        return encodeBody(keys().generations);
      case 'journalCopy':
        return encodeBody(this.#journalPart(read(paging, body)));
      case 'signingKey':
        return encodeBody(signingKeys().get(read(naming, body).name));
      case 'auditHead':
        return encodeBody(journal.auditHead);
      case 'witnessedHead':
        return encodeBody(journal.witnessedHead(read(logNaming, body).origin));
      case 'block':
        return encodeBody(await journal.block(read(blocking, body).id));
      case 'unblock':
        return encodeBody(await journal.unblock(read(blocking, body).id));
      case 'hold':
        return encodeBody(await journal.hold(read(blocking, body).id));
      case 'unhold':
        return encodeBody(await journal.unhold(read(blocking, body).id));
      case 'endBootstrap':
        return encodeBody(await journal.endBootstrap());
      case 'bootstrapIsOver':
        return encodeBody(journal.bootstrapIsOver);
      case 'rotateKek':
        return encodeBody(await this.#keks().rotate());
      case 'destroyKek':
        return encodeBody(await this.#keks().destroy(read(kekNaming, body).kek));
      // What is not on the disk yet could be forgotten, and the former key serve on.
      case 'tokenKeys':
        await journal.settled();
        return encodeBody(successors.list());
      case 'prepareAuthority': {
        const { name, n, urls } = read(preparing, body);
        return encodeBody(await successors.prepareAuthority(name, n, urls));
      }
      case 'succeedKey': {
        const { name, n, urls } = read(succeeding, body);
        return encodeBody(await successors.succeed(name, n, urls));
      }
      case 'prepareAuditKey':
        return encodeBody(await successors.prepareAudit(read(numbering, body).n));
      case 'succeedAuditKey': {
        const { n, head, announcement } = read(announcing, body);
        return encodeBody(await successors.succeedAudit(n, head, announcement));
      }
      case 'auditSuccessions':
        await journal.settled();
        return encodeBody(journal.successions.flatMap(({ note }) => (note === undefined ? [] : [note])));
      case 'retireKey':
        return encodeBody(await successors.retire(read(retiring, body).name));
      case 'retireAuthority': {
        const { name, n } = read(retiringAuthority, body);
        return encodeBody(await successors.retireAuthority(name, n));
      }
      case 'inspect': {
        const done = await judge({ op, body });
        return own.length === 0 ? done.body : encodeBody([...(decodeBody(done.body) as TokenFinding[]), ...own]); // what worker.ts makes of inspectToken
      }
      default: {
        const done = await judge(op === 'makePair' ? { op, body, n: await journal.nextPair() } : { op, body });
        await journal.admit(done.claims);
        return done.body;
      }
    }
  }
}

/** The arguments of an errand, the pair's number among them: ours, whatever the caller wrote there. */
export function readArguments({ body, n }: Errand): unknown {
  let args: unknown;
  try {
    args = decodeBody(body);
  } catch {
    throw notUnderstood();
  }
  return n === undefined || typeof args !== 'object' ? args : { ...args, n };
}

function read<T>(shape: z.ZodType<T>, body: string): T {
  const parsed = shape.safeParse(readArguments({ op: '', body }));
  if (!parsed.success) throw notUnderstood();
  return parsed.data;
}

const notUnderstood = () => new Fault('malformed', 'token-ask-malformed', 'the token process does not understand this request');
