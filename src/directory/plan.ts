import type { Address } from '../foundation/index.js';
import { type DirectoryEntry, mailAddress } from './directory.js';

/** A person as EKMS has them. */
export interface KnownPerson {
  employee: string;
  /** Their id in the directory, once they are linked to it. */
  directory: string | null;
  state: 'active' | 'stopped';
  /** Who stopped them. */
  stoppedBy: 'directory' | 'operator' | null;
  /** Open bindings. */
  addresses: readonly { address: string; from: number }[];
  /** What they are where they are nobody: a mailbox that several people read, or the recovery reader of documents, which two persons turn on and off. */
  nobody?: 'shared-mailbox' | 'recovery-reader';
}

/** What follows from the directory for one person or address. Steps are done in the order of `ORDER`. */
export type Step =
  /** The owner of this address, who enrolled by the mailbox, is this person of the directory. */
  | { act: 'link'; employee: string; address: string; directory: string }
  /** The address is not this person's any more: it left their entry, or somebody else has it now. */
  | { act: 'end-address'; employee: string; address: string; because: 'moved' | 'reassigned' }
  | { act: 'stop'; employee: string; directory: string; because: 'gone' | 'disabled' }
  | { act: 'resume'; employee: string }
  | { act: 'add-address'; directory: string; address: Address }
  /** Somebody new, with their first address; further ones are `add-address`. */
  | { act: 'join'; directory: string; address: Address };

/** What nobody but a person can decide; nothing is done about it. */
export interface Question {
  code: 'address-twice' | 'id-twice' | 'older-than-entry' | 'two-employees' | 'two-owners' | NonNullable<KnownPerson['nobody']>;
  /** Address or directory id. */
  about: string;
}

export interface Plan {
  steps: Step[];
  questions: Question[];
  /** People of the directory who are active here: what the guard against a mass-leaver accident is measured by. */
  linked: number;
}

const ORDER = ['link', 'end-address', 'stop', 'resume', 'add-address', 'join'] as const satisfies Step['act'][];

/**
 * What follows from what the directory says, for the people whom EKMS has. Pure; run again on its own result it gives nothing more to do.
 * Who never was in the directory (a shared mailbox, an external) is left alone.
 * @param entries every person of the directory, or, for one address, everybody who has to do with it
 */
export function plan(entries: readonly DirectoryEntry[], known: readonly KnownPerson[], domains: readonly string[]): Plan {
  const questions: Question[] = [];
  const ids = countBy(entries.map(({ id }) => id));
  const people = entries.filter(({ id }) => ids.get(id) === 1).map((entry) => ({ ...entry, addresses: ownAddresses(entry, domains) }));
  for (const [id, count] of ids) if (count > 1) questions.push({ code: 'id-twice', about: id });

  const byId = new Map(people.map((person) => [person.id, person]));
  const byDirectory = new Map(known.flatMap((person) => (person.directory === null ? [] : [[person.directory, person] as const])));
  const ownerOf = new Map(known.flatMap((person) => person.addresses.map((binding) => [binding.address, { person, ...binding }] as const)));
  const claims = countBy(people.filter(({ active }) => active).flatMap(({ addresses }) => addresses.map(({ key }) => key)));
  const isDisputed = (address: string) => (claims.get(address) ?? 0) > 1;
  for (const [address, count] of claims) if (count > 1) questions.push({ code: 'address-twice', about: address });

  const steps: Step[] = [];
  const ended = new Set<string>();
  const links = new Map<string, KnownPerson>();
  const linkedBy = new Set<KnownPerson>();

  // Who enrolled by the mailbox before the directory was asked.
  for (const { id, addresses, active, created } of people)
    for (const { key } of addresses) {
      const owner = ownerOf.get(key);
      if (!owner || owner.person.directory !== null || isDisputed(key) || (!active && claims.has(key))) continue;
      if (owner.person.nobody) {
        questions.push({ code: owner.person.nobody, about: key });
        continue;
      }
      const other = byDirectory.get(id) ?? links.get(id);
      if (other === owner.person) continue;
      if (other) questions.push({ code: 'two-employees', about: key });
      else if (linkedBy.has(owner.person)) questions.push({ code: 'two-owners', about: key });
      // The binding was there before this entry: whoever proved the mailbox then may be another person.
      else if (created !== undefined && created > owner.from) questions.push({ code: 'older-than-entry', about: key });
      else {
        steps.push({ act: 'link', employee: owner.person.employee, address: key, directory: id });
        links.set(id, owner.person);
        linkedBy.add(owner.person);
      }
    }

  const linked = [...byDirectory, ...links].filter(([id, { nobody }]) => !nobody && (ids.get(id) === undefined || ids.get(id) === 1));
  for (const [directory, person] of linked) {
    const entry = byId.get(directory);
    const { employee, state, stoppedBy } = person;
    if (!entry?.active) {
      if (state === 'active') steps.push({ act: 'stop', employee, directory, because: entry ? 'disabled' : 'gone' });
    } else if (state === 'stopped' && stoppedBy === 'directory') steps.push({ act: 'resume', employee });
    for (const { address } of person.addresses) {
      const isTheirs = entry?.addresses.some(({ key }) => key === address) ?? false;
      // A leaver keeps their addresses, to come back to, until somebody else has them.
      const isLost = entry?.active ? !isTheirs : claims.has(address);
      if (!isLost || isDisputed(address)) continue;
      steps.push({ act: 'end-address', employee, address, because: claims.has(address) ? 'reassigned' : 'moved' });
      ended.add(address);
    }
  }

  for (const { id, addresses, active } of people.filter((person) => person.active)) {
    let isKnown = byDirectory.has(id) || links.has(id);
    for (const address of addresses) {
      if (!active || isDisputed(address.key) || (ownerOf.has(address.key) && !ended.has(address.key))) continue;
      steps.push({ act: isKnown ? 'add-address' : 'join', directory: id, address });
      isKnown = true;
    }
  }
  steps.sort((a, b) => ORDER.indexOf(a.act) - ORDER.indexOf(b.act));
  return { steps, questions, linked: [...byDirectory.values()].filter(({ state }) => state === 'active').length };
}

/** What takes something away from somebody. */
export const isLoss = (step: Step): step is Extract<Step, { act: 'end-address' | 'stop' }> =>
  step.act === 'end-address' || step.act === 'stop';

function ownAddresses({ addresses }: DirectoryEntry, domains: readonly string[]): Address[] {
  const own = new Map<string, Address>();
  for (const text of addresses) {
    const address = mailAddress(text);
    if (address && domains.includes(address.domain) && !own.has(address.key)) own.set(address.key, address);
  }
  return [...own.values()];
}

function countBy(texts: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}
