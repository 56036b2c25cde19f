import type { KeptReceipt, KnownLog } from '../store/index.js';

/** An entry about a key whose place in the signed log was proved. */
export interface ProvedUse {
  index: number;
  /** base64url. */
  leaf: string;
  key: string;
  use: number;
  previous: string | undefined;
  time: string;
  action: string;
  outcome: string;
  reason: string | undefined;
  actor: { kind: string; id?: string | undefined };
  device: string | undefined;
  facts: Readonly<Record<string, string | number | boolean>>;
  /** Where the request came from, if the entry says so and it was not erased. */
  network: string | undefined;
  /** Who read the mail, by their address, where somebody was let in for a time. */
  reader: string | undefined;
  /** Of an entry that was sealed, what it said; absent until its date. */
  sealed:
    | { action: string; outcome: string; actor: { kind: string; id?: string | undefined }; personal: Readonly<Record<string, string>> }
    | undefined;
}

/** Something that an honest appliance does not do. */
export interface Finding {
  kind: 'omitted' | 'contradicted' | 'old';
  /** One sentence for a person. */
  words: string;
}

export interface Evidence {
  /** In the order of the log. */
  uses: readonly ProvedUse[];
  /** Ids of the keys that this device has. */
  held: readonly string[];
  receipts: readonly (KeptReceipt & { at: string })[];
  known: KnownLog | undefined;
  /** First entry that the log still has; 0 where nothing was pruned, which an entry of it proves. */
  pruned: number;
  /** What the entries of this very reading say. */
  nonce: string;
}

type Check = (evidence: Evidence) => Finding[];

const byKey = ({ uses, held }: Evidence): Map<string, ProvedUse[]> => {
  const keys = new Map<string, ProvedUse[]>(held.map((id) => [id, []]));
  for (const use of uses) keys.set(use.key, [...(keys.get(use.key) ?? []), use]);
  return keys;
};

/** Uses are numbered from 1 (after pruning, from any) without a gap, and each names the leaf of the one before. */
const counters: Check = (evidence) =>
  [...byKey(evidence)].flatMap(([key, uses]): Finding[] => {
    const gone = evidence.pruned > 0 ? (uses[0]?.use ?? 1) - 1 : 0;
    for (const [n, { use, previous }] of uses.entries()) {
      const next = gone + n + 1;
      if (use > next) return [{ kind: 'omitted', words: `use ${next} of key ${key} was left out: use ${use} follows` }];
      if (use < next) return [{ kind: 'contradicted', words: `use ${use} of key ${key} is in the log twice` }];
      if (previous !== uses[n - 1]?.leaf && !(n === 0 && gone > 0))
        return [{ kind: 'contradicted', words: `use ${use} of key ${key} follows another entry than the one shown` }];
    }
    return [];
  });

/** The last entry about each key is this very reading, so nothing was left out after it. */
const fresh: Check = (evidence) =>
  [...byKey(evidence)].flatMap(([key, uses]): Finding[] => {
    const last = uses.at(-1);
    if (!last) return [{ kind: 'omitted', words: `no entry of key ${key} was shown, and this device has that key` }];
    return last.action === 'key.uses' && last.facts['nonce'] === evidence.nonce
      ? []
      : [{ kind: 'old', words: `the last entries of key ${key} were left out: this very reading is not among them` }];
  });

/** Every receipt is an entry. */
const receipts: Check = ({ uses, receipts: kept, held, pruned }) => {
  const leaves = new Map(uses.map(({ index, leaf }) => [index, leaf]));
  return kept.flatMap(({ key, index, leaf, at }): Finding[] => {
    if (!held.includes(key) || index < pruned || leaves.get(index) === leaf) return [];
    const words = `this device has a receipt of ${at} for key ${key}, entry ${index}; the log shows`;
    return leaves.has(index)
      ? [{ kind: 'contradicted', words: `${words} another entry there` }]
      : [{ kind: 'omitted', words: `${words} none` }];
  });
};

/** What was seen before is still there. */
const remembered: Check = ({ uses, known, pruned }) =>
  Object.entries(known?.uses ?? {}).flatMap(([key, { use, leaf }]): Finding[] => {
    const now = uses.find((one) => one.key === key && one.use === use);
    if (now?.leaf === leaf) return [];
    const first = uses.find((one) => one.key === key)?.use ?? 0;
    if (!now && pruned > 0 && use < first) return [];
    const words = `use ${use} of key ${key}, which was shown before,`;
    return now ? [{ kind: 'contradicted', words: `${words} is another one now` }] : [{ kind: 'omitted', words: `${words} was left out` }];
  });

/** What must hold of entries that are proved to be in the log. */
export const CHECKS: Readonly<Record<string, Check>> = { counters, fresh, receipts, remembered };
