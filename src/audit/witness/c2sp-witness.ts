import { cosignedText, keyId, type NoteKey, parseNote, sameHash, verifyByWebCrypto } from '../../codec/merkle/index.js';
import { Fault } from '../../foundation/index.js';
import { sha256 } from '../log-tree.js';
import { post, type Reply } from './post.js';
import { type ShownHead, type Testimony, Witness } from './witness.js';

export interface C2spSettings {
  name: string;
  /** Submission prefix. */
  url: string;
  /** Of its cosignatures (type 0x04). */
  key: NoteKey;
  /** PEM; without it, the system's authorities. */
  ca?: string | undefined;
  timeoutMs?: number;
}

const TIMEOUT_MS = 5_000;
/** Times that it may name another size: other nodes show it heads too. */
const ATTEMPTS = 4;

/**
 * A witness by https://c2sp.org/tlog-witness with Ed25519 cosignatures (https://c2sp.org/tlog-cosignature). It keeps one head of this log and takes
 * only what extends that, so showing it a head tells both whether ours is the log it knows, and how far it has seen it.
 */
export class C2spWitness extends Witness {
  /** Size that it cosigned last, as far as we know. */
  #last = 0;

  constructor(private readonly settings: C2spSettings) {
    super();
  }

  override get name(): string {
    return this.settings.name;
  }

  override async show(head: ShownHead): Promise<Testimony> {
    if (head.note === null) return { agrees: true }; // it takes nothing that is not signed, so it can say nothing yet
    const known = (size: number) => ({ origin: head.origin, size, root: '' });
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const old = Math.min(this.#last, head.size);
      const proof = (await head.proof(old)).map((hash) => `${hash.toString('base64')}\n`);
      const reply = await this.#post(`old ${old}\n${proof.join('')}\n${head.note}`);
      if (reply.status === 200) {
        await this.#requireCosigned(head.note, reply.body.toString());
        this.#last = head.size;
        return { agrees: true };
      }
      // It holds a head of this very size, or its proof does not lead to ours: another tree.
      if (reply.status === 422) return { agrees: false, code: 'audit-forked', known: known(old) };
      if (reply.status !== 409) throw refused(this.name, reply);
      const size = /^(0|[1-9]\d{0,15})\n$/.exec(reply.body.toString())?.[1];
      const isSize = reply.type.startsWith('text/x.tlog.size') && size !== undefined;
      if (!isSize || Number(size) === old) {
        if (old === head.size || (isSize && Number(size) === old)) return { agrees: false, code: 'audit-forked', known: known(old) };
        throw refused(this.name, reply);
      }
      this.#last = Number(size);
      if (this.#last > head.size) return { agrees: false, code: 'audit-rolled-back', known: known(this.#last) };
    }
    throw new Fault('unavailable', 'witness-unreachable', `the witness ${this.name} was shown other heads all the while`, 5);
  }

  /** Without its signature whoever stands in between could say yes. */
  async #requireCosigned(note: string, lines: string): Promise<void> {
    const { key } = this.settings;
    const signed = parseNote(note);
    const answer = parseNote(`${signed?.text ?? ''}\n${lines}`);
    const id = keyId(sha256, key);
    for (const { name, keyId: given, signature } of answer?.signatures ?? []) {
      if (name !== key.name || !sameHash(given, id) || signature.length !== 72) continue;
      const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
      const message = Buffer.from(cosignedText(time, signed?.text ?? ''));
      if (await verifyByWebCrypto(key, message, signature.subarray(8))) return;
    }
    throw new Fault('unavailable', 'witness-refused', `the witness ${this.name} did not sign: is its key the one in ekms.yaml?`, 60);
  }

  #post(body: string): Promise<Reply> {
    const { url, ca, timeoutMs = TIMEOUT_MS } = this.settings;
    const where = `${url.replace(/\/$/, '')}/add-checkpoint`;
    return post(where, { type: 'text/plain; charset=utf-8', body: Buffer.from(body), timeoutMs, ca }).catch((error: Error) => {
      throw new Fault('unavailable', 'witness-unreachable', `the witness ${this.name} (${url}) is not reached: ${error.message}`, 10);
    });
  }
}

const WHY: Record<number, string> = {
  400: 'it does not understand what it was asked',
  403: 'it knows this log by another key: give it audit.pub',
  404: 'it does not know this log: give it audit.pub',
};
const refused = (name: string, { status }: Reply) =>
  new Fault('unavailable', 'witness-refused', `the witness ${name} answered ${status}: ${WHY[status] ?? 'it has trouble of its own'}`, 60);
