import { type Clock, Fault, OneAtATime } from '../../foundation/index.js';
import { type AuthorityCertificates, type AuthoritySettings, makeAuthorities } from '../authorities.js';
import { HsmError, SIGNING_KEYS } from '../hsm.js';
import { Journal } from '../journal.js';
import { MemoryHsm } from '../memory-hsm.js';
import type { RecoveryAgents } from '../recovery.js';
import type { TokenFinding } from '../token.js';
import { Warden } from '../warden.js';
import { Desk, type Done, type Errand, readArguments } from './desk.js';
import { decodeBody, encodeBody } from './frames.js';
import { judge } from './judge.js';
import { SuccessorKeys } from './successor-keys.js';
import { TokenCalls } from './token-calls.js';
import { hsmFault } from './token-faults.js';
import { keysInForce } from './token-state.js';

const FINDING: TokenFinding = { check: 'software', verdict: 'warn', words: 'this token is a part of a test' };

/** `Token` in this very process, for tests: the same desk, warden, journal and encoding as the token process, over a token made of node:crypto. */
export class MemoryToken extends TokenCalls {
  private constructor(
    /** Its `down` takes the token away and gives it back. */
    readonly hsm: MemoryHsm,
    private readonly journal: Journal,
    private readonly desk: Desk,
  ) {
    super();
  }

  /**
   * @param journalPath where the journal is, or will be made
   * @param agents whom a ceremony would have named
   */
  static async open(journalPath: string, settings: AuthoritySettings, clock: Clock, agents?: RecoveryAgents): Promise<MemoryToken> {
    const hsm = new MemoryHsm();
    const authorities: AuthorityCertificates = await makeAuthorities(hsm, settings, clock.now());
    Journal.create(journalPath);
    const journal = await Journal.open(journalPath, clock);
    const state = { canary: Buffer.alloc(0), authorities, journal };
    const keys = () => keysInForce(state);
    hsm.serving = () => keys().serving;
    const begun = () => {
      const { serving, authorities: inForce, generations } = keys();
      return new Warden(hsm, inForce, clock, agents, serving.audit, generations);
    };
    let warden = begun();
    const changes = new OneAtATime();
    const successors = new SuccessorKeys({
      settings: { state: `${journalPath}.state` },
      ...{ owner: hsm, state, clock, alone: (act) => changes.run('keys', act) },
      refresh: async () => {
        warden = begun();
      },
    });
    const signingKeys = () =>
      new Map(SIGNING_KEYS.map((name) => [name, { name, algorithm: hsm.algorithm(name), publicKey: hsm.publicKey(name) }]));
    const health = () => ({ state: hsm.down ? 'down' : 'ready', queued: 0, recoveries: 0 }) as const;
    const run = async (errand: Errand): Promise<Done> => {
      if (errand.op === 'inspect') return { claims: [], body: encodeBody([FINDING]) };
      if (errand.op === 'custody') return { claims: [], body: encodeBody(null) };
      const { claims, value } = await judge(warden, errand.op, readArguments(errand));
      return { claims, body: encodeBody(value) };
    };
    return new MemoryToken(hsm, journal, new Desk({ journal, keys, signingKeys, health, judge: run, successors }));
  }

  async close(): Promise<void> {
    await this.journal.close();
  }

  protected override async call(op: string, args: unknown): Promise<unknown> {
    try {
      return decodeBody(await this.desk.answer(op, encodeBody(args)));
    } catch (error) {
      if (error instanceof HsmError) throw hsmFault(error);
      if (error instanceof Fault) throw error;
      throw new Fault('unavailable', 'token-defect', 'the token failed at this');
    }
  }
}
