import type { AuditHead } from '../../tokens/index.js';

/** A signed head, and how to prove that it extends an earlier one. */
export interface ShownHead {
  origin: string;
  size: number;
  root: Buffer;
  /** The signed note; null before the first head of this log. */
  note: string | null;
  /** RFC 9162 §2.1.4, from so many entries to this head. */
  proof(from: number): Promise<Buffer[]>;
}

/** What a witness remembers, held against the head that it was shown. Its root is empty where the witness tells only its size. */
export type Testimony =
  | { agrees: true }
  /** It knows of more entries than this head has. */
  | { agrees: false; code: 'audit-rolled-back'; known: AuditHead }
  /** It knows of a head that is not of this log's past. */
  | { agrees: false; code: 'audit-forked'; known: AuditHead };

/** Something outside of the appliance's administrators' reach that remembers heads and tells what it remembers. */
export abstract class Witness {
  /** As the settings call it. */
  abstract readonly name: string;
  /** Compares the head with what is remembered; one that agrees is remembered from now on. Rejects with `witness-unreachable`, or `witness-refused` with its reason. */
  abstract show(head: ShownHead): Promise<Testimony>;
}
