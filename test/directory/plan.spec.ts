import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type DirectoryEntry, type KnownPerson, plan, type Step } from '../../src/directory/index.js';

const DOMAINS = ['corp.example'];
const entry = (id: string, addresses: string[], more: Partial<DirectoryEntry> = {}): DirectoryEntry => ({
  id,
  addresses,
  active: true,
  ...more,
});
const known = (employee: string, directory: string | null, addresses: string[], more: Partial<KnownPerson> = {}): KnownPerson => ({
  employee,
  directory,
  state: 'active',
  stoppedBy: null,
  addresses: addresses.map((address) => ({ address, from: 1_000 })),
  ...more,
});
const steps = (entries: DirectoryEntry[], people: KnownPerson[]) => plan(entries, people, DOMAINS).steps;
const said = (entries: DirectoryEntry[], people: KnownPerson[]) =>
  steps(entries, people).map((step) =>
    `${step.act} ${'address' in step ? (typeof step.address === 'string' ? step.address : step.address.key) : ''}`.trim(),
  );

describe('what follows from the directory', () => {
  test.each<[string, DirectoryEntry[], KnownPerson[], string[]]>([
    ['nothing new', [entry('a', ['anna@corp.example'])], [known('1', 'a', ['anna@corp.example'])], []],
    [
      'a joiner with two addresses',
      [entry('a', ['anna@corp.example', 'a@corp.example'])],
      [],
      ['add-address a@corp.example', 'join anna@corp.example'],
    ],
    ['a joiner who is disabled yet', [entry('a', ['anna@corp.example'], { active: false })], [], []],
    ['addresses of other domains, and what is no address', [entry('a', ['anna@else.example', 'nonsense', 'x'])], [], []],
    [
      'a mover',
      [entry('a', ['new@corp.example'])],
      [known('1', 'a', ['old@corp.example'])],
      ['end-address old@corp.example', 'add-address new@corp.example'],
    ],
    ['a leaver whose entry is gone', [], [known('1', 'a', ['anna@corp.example'])], ['stop']],
    [
      'a leaver whose account is disabled',
      [entry('a', ['anna@corp.example'], { active: false })],
      [known('1', 'a', ['anna@corp.example'])],
      ['stop'],
    ],
    ['a leaver who was stopped before', [], [known('1', 'a', ['anna@corp.example'], { state: 'stopped', stoppedBy: 'directory' })], []],
    [
      'a returner',
      [entry('a', ['anna@corp.example'])],
      [known('1', 'a', ['anna@corp.example'], { state: 'stopped', stoppedBy: 'directory' })],
      ['resume'],
    ],
    [
      'somebody whom an operator stopped',
      [entry('a', ['anna@corp.example'])],
      [known('1', 'a', ['anna@corp.example'], { state: 'stopped', stoppedBy: 'operator' })],
      [],
    ],
    [
      'an address that a newcomer has after a leaver',
      [entry('b', ['sales@corp.example'])],
      [known('1', 'a', ['sales@corp.example'], { state: 'stopped', stoppedBy: 'directory' })],
      ['end-address sales@corp.example', 'join sales@corp.example'],
    ],
    [
      'two people who swap addresses',
      [entry('a', ['y@corp.example']), entry('b', ['x@corp.example'])],
      [known('1', 'a', ['x@corp.example']), known('2', 'b', ['y@corp.example'])],
      ['end-address x@corp.example', 'end-address y@corp.example', 'add-address y@corp.example', 'add-address x@corp.example'],
    ],
    [
      'somebody who is in no directory',
      [entry('a', ['anna@corp.example'])],
      [known('9', null, ['shared@corp.example'])],
      ['join anna@corp.example'],
    ],
    [
      'somebody who enrolled by the mailbox before',
      [entry('a', ['anna@corp.example'], { created: 999 })],
      [known('1', null, ['anna@corp.example'])],
      ['link anna@corp.example'],
    ],
    [
      'the same, and disabled',
      [entry('a', ['anna@corp.example'], { active: false })],
      [known('1', null, ['anna@corp.example'])],
      ['link anna@corp.example', 'stop'],
    ],
  ])('%s', (_, entries, people, expected) => {
    expect(said(entries, people)).toEqual(expected);
  });

  test.each<[string, DirectoryEntry[], KnownPerson[]]>([
    ['older-than-entry', [entry('a', ['anna@corp.example'], { created: 1_001 })], [known('1', null, ['anna@corp.example'])]],
    ['address-twice', [entry('a', ['anna@corp.example']), entry('b', ['anna@corp.example'])], [known('1', 'a', ['anna@corp.example'])]],
    ['id-twice', [entry('a', ['anna@corp.example']), entry('a', ['bob@corp.example'])], [known('1', 'a', ['anna@corp.example'])]],
    [
      'two-employees',
      [entry('a', ['anna@corp.example', 'a@corp.example'])],
      [known('1', 'a', ['anna@corp.example']), known('2', null, ['a@corp.example'])],
    ],
    [
      'shared-mailbox',
      [entry('a', ['sales@corp.example'], { active: false })],
      [known('1', null, ['sales@corp.example'], { nobody: 'shared-mailbox' })],
    ],
    [
      'recovery-reader',
      [entry('a', ['documents@corp.example'], { active: false })],
      [known('1', null, ['documents@corp.example'], { nobody: 'recovery-reader' })],
    ],
  ])('a question that only a person can decide takes nothing from anybody: %s', (code, entries, people) => {
    const made = plan(entries, people, DOMAINS);
    expect(made.questions.map((question) => question.code)).toContain(code);
    expect(made.steps).toEqual([]);
  });
});

/** What the use cases make of the steps, by their contracts. */
function after(people: KnownPerson[], made: Step[]): KnownPerson[] {
  let next = people.map((person) => ({ ...person, addresses: [...person.addresses] }));
  for (const step of made) {
    const of = (match: (person: KnownPerson) => boolean) => next.find(match) as (typeof next)[number]; // the plan names only who is there
    if (step.act === 'link') of(({ employee }) => employee === step.employee).directory = step.directory;
    if (step.act === 'stop')
      Object.assign(
        of(({ employee }) => employee === step.employee),
        { state: 'stopped', stoppedBy: 'directory' },
      );
    if (step.act === 'resume')
      Object.assign(
        of(({ employee }) => employee === step.employee),
        { state: 'active', stoppedBy: null },
      );
    if (step.act === 'end-address') {
      const person = of(({ employee }) => employee === step.employee);
      person.addresses = person.addresses.filter(({ address }) => address !== step.address);
    }
    if (step.act === 'join' || step.act === 'add-address') {
      const isBound = next.some(({ addresses }) => addresses.some(({ address }) => address === step.address.key));
      expect(isBound).toBe(false); // an address has one owner at a time
      const bound = { address: step.address.key, from: 2_000 };
      const owner = next.find(({ directory }) => directory === step.directory);
      if (owner) owner.addresses.push(bound);
      else next = [...next, { ...known(`new ${step.directory}`, step.directory, []), addresses: [bound] }];
    }
  }
  return next;
}

test('whatever people and directory are: done once, nothing remains to be done, and nobody gets keys by an address that was another’s', () => {
  const address = fc.constantFrom('a', 'b', 'c', 'd').map((name) => `${name}@corp.example`);
  const id = fc.constantFrom('A', 'B', 'C');
  const entries = fc.array(
    fc.record({ id, addresses: fc.uniqueArray(address, { maxLength: 3 }), active: fc.boolean(), created: fc.constantFrom(500, 1_500) }),
    { maxLength: 4 },
  );
  const people = fc
    .array(fc.record({ directory: fc.option(id), state: fc.constantFrom('active', 'directory', 'operator'), bound: fc.array(address) }), {
      maxLength: 4,
    })
    .map((list) => {
      const [ids, taken] = [new Set<string>(), new Set<string>()];
      return list.map(({ directory, state, bound }, n) => {
        const own = directory !== null && !ids.has(directory) ? directory : null;
        if (own) ids.add(own);
        const free = bound.filter((one) => !taken.has(one) && taken.add(one));
        return known(`${n}`, own, free, state === 'active' ? {} : { state: 'stopped', stoppedBy: state as 'directory' }); // one of the two
      });
    });
  fc.assert(
    fc.property(entries, people, (list, before) => {
      const first = plan(list, before, DOMAINS);
      const then = after(before, first.steps);
      expect(plan(list, then, DOMAINS).steps).toEqual([]);
      for (const person of before)
        for (const { address: had } of person.addresses) {
          const owner = then.find(({ addresses }) => addresses.some((one) => one.address === had));
          // Whoever has it now is its owner of before, or somebody whom the directory says has it; then the former has lost it.
          if (owner && owner.employee !== person.employee)
            expect(list.some((one) => one.id === owner.directory && one.active && one.addresses.includes(had))).toBe(true);
        }
    }),
    { numRuns: 2_000 },
  );
});
