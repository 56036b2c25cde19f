import { setTimeout as sleep } from 'node:timers/promises';
import type { Employees } from '../access/index.js';
import type { AddressCertificates, KeyReplacement, PremadeKeys } from '../certificates/index.js';
import {
  type Address,
  type AuditActor,
  type AuditLog,
  base64url,
  type Clock,
  canonicalJson,
  Fault,
  isFault,
  type Json,
  type Storage,
  sha256,
} from '../foundation/index.js';
import { askedOutside, type Directory, type DirectoryEntry, mailAddress } from './directory.js';
import { isLoss, type KnownPerson, type Plan, plan, type Step } from './plan.js';
import { readLastSync, type SyncOutcome, writeLastSync } from './sync-record.js';

export interface SyncSettings {
  /** Mail domains that are served here. */
  domains: readonly string[];
  /** More losses than this share of the linked people, in percent, and more than `FEW`, are an accident until somebody confirms them. */
  leaversPercent: number;
  /** Whether somebody who is not in the directory may enrol. */
  unlisted: 'allow' | 'refuse';
}

/** What a run would do, or did. */
export interface SyncReport extends Plan {
  /** Names what would be taken from whom: a confirmation counts for exactly this. */
  digest: string;
  needsConfirmation: boolean;
  /** Steps that met a change made at the same time; the next run looks again. */
  missed: number;
}

/** Losses in one run that are never taken for an accident, however small the organisation. */
const FEW = 2;

/** Milliseconds that a run in progress is waited for at the end. */
const STOPPING = 2_000;

const BY: AuditActor = { kind: 'system', id: 'directory' };

/**
 * Keeps people as the directory has them: joiners, movers, leavers, returners, addresses that get another owner (docs/operators-guide.md).
 * Each step is an act of its own with its entry, so a run that is cut off is simply run again.
 */
export class DirectorySync {
  #round: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly parts: {
      storage: Storage;
      audit: AuditLog;
      clock: Clock;
      directory: Directory;
      employees: Employees;
      endings: KeyReplacement;
      certificates: AddressCertificates;
      premade: PremadeKeys;
    },
    private readonly settings: SyncSettings,
  ) {}

  /** The dry run: what `run` would do now. Changes nothing. */
  async preview(): Promise<SyncReport> {
    return this.#report(await this.parts.directory.people(), await this.#known());
  }

  /**
   * One run. Rejects with `directory-unavailable`, `directory-refused`, `directory-incomplete`, or with `directory-losses` when an empty or much
   * smaller answer would stop or strip more people than an ordinary day does: then nothing was done, and `confirm` with the preview's digest does it.
   */
  run(confirm?: string, by: AuditActor = BY): Promise<SyncReport> {
    const mine = this.#round.then(
      () => this.#recorded(confirm, by),
      () => this.#recorded(confirm, by),
    );
    this.#round = mine;
    return mine;
  }

  /**
   * Runs now and then again this many milliseconds after each run's end. Outages and refusals are told by entries and by doctor.
   * @param defect hears of what is no Fault
   */
  every(milliseconds: number, defect: (error: unknown) => void): { stop(): Promise<void> } {
    const stopping = new AbortController();
    const rounds = async () => {
      while (!stopping.signal.aborted) {
        await this.run().catch((error: unknown) => (isFault(error) ? undefined : defect(error)));
        await sleep(milliseconds, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    };
    const running = rounds();
    return {
      stop: async () => {
        stopping.abort();
        // A directory that hangs does not keep the appliance from stopping; a step that is under way is one unit of work, done or not.
        await Promise.race([running, sleep(STOPPING, undefined, { ref: false })]);
      },
    };
  }

  /**
   * Brings one address up to date before somebody enrols by it, so that an address with a new owner never opens the former one's keys, not even
   * between two runs. Rejects with `directory-unavailable`, `directory-unclear`, `directory-unlisted`.
   */
  async settle(address: Address): Promise<void> {
    const entries = await askedOutside(this.parts.directory.byAddress(address));
    const owner = (await this.parts.employees.bindingOf(address.key))?.sealed.record.employee;
    const known = await this.#known({ owner, ids: entries.map(({ id }) => id) });
    for (const { directory } of known)
      if (directory !== null && !entries.some(({ id }) => id === directory)) {
        const other = await askedOutside(this.parts.directory.byId(directory));
        if (other) entries.push(other);
      }
    const { steps, questions } = plan(entries, known, this.settings.domains);
    if (questions.length > 0)
      throw new Fault('forbidden', 'directory-unclear', 'the directory does not say clearly whose address this is; ask your IT department');
    const concerns = (step: Step) =>
      'address' in step ? (typeof step.address === 'string' ? step.address : step.address.key) === address.key : true;
    for (const step of steps.filter(concerns)) await this.#apply(step, BY);
    const isListed = entries.some(({ active, addresses }) => active && addresses.some((text) => mailAddress(text)?.key === address.key));
    if (!isListed && this.settings.unlisted === 'refuse')
      throw new Fault('forbidden', 'directory-unlisted', 'the directory has no active person with this address; ask your IT department');
  }

  async #recorded(confirm: string | undefined, by: AuditActor): Promise<SyncReport> {
    try {
      const report = await this.#run(confirm, by);
      await this.#record({ outcome: 'done' }, by, report);
      return report;
    } catch (error) {
      if (isFault(error)) await this.#record({ outcome: error.kind === 'unavailable' ? 'failed' : 'refused', reason: error.code }, by);
      throw error;
    }
  }

  async #run(confirm: string | undefined, by: AuditActor): Promise<SyncReport> {
    const report = await this.preview();
    if (confirm !== undefined && confirm !== report.digest)
      throw new Fault('conflict', 'directory-changed', 'the directory says something else by now; look at a dry run again');
    if (report.needsConfirmation && confirm === undefined)
      throw new Fault(
        'conflict',
        'directory-losses',
        `${report.steps.filter(isLoss).length} losses among ${report.linked} people look like an accident, so nothing was done: look at ekms directory sync --dry-run, then --confirm ${report.digest}`,
      );
    for (const step of report.steps) if (step.act === 'stop' && step.because === 'gone') await this.#requireGone(step.directory);
    let missed = 0;
    for (const step of report.steps)
      try {
        await this.#apply(step, by);
      } catch (error) {
        if (!isFault(error) || error.kind === 'unavailable') throw error;
        missed += 1;
        await this.#refused(step, error, by);
      }
    await this.parts.certificates.issueMissing(by);
    await this.parts.premade.serve();
    return { ...report, missed };
  }

  /** Who was missing in a long answer is asked for by their id: a page that got lost makes nobody a leaver. */
  async #requireGone(directory: string): Promise<void> {
    if (await this.parts.directory.byId(directory))
      throw new Fault('unavailable', 'directory-incomplete', 'the directory left out people whom it has; nobody was stopped', 60);
  }

  async #apply(step: Step, by: AuditActor): Promise<void> {
    const { employees, endings, storage } = this.parts;
    switch (step.act) {
      case 'link':
        return employees.link(step, by);
      case 'end-address':
        return endings.releaseAddress(step.address, by, step.employee);
      case 'stop':
        return employees.stopByDirectory(step.employee, by);
      case 'resume':
        return employees.resumeByDirectory(step.employee, by);
      case 'add-address':
        return employees.addAddress(step.directory, step.address, by);
      case 'join': {
        const binding = await employees.propose(step.address, step.directory);
        return storage.write((unit) => employees.insert(unit, binding, by));
      }
    }
  }

  async #report(entries: readonly DirectoryEntry[], known: readonly KnownPerson[]): Promise<SyncReport> {
    const made = plan(entries, known, this.settings.domains);
    const losses = made.steps.filter(isLoss);
    const losers = new Set(losses.map(({ employee }) => employee)).size;
    const usual = Math.max(FEW, Math.floor((made.linked * this.settings.leaversPercent) / 100));
    const digest = base64url(sha256(canonicalJson(losses as unknown as Json))); // plain strings
    return { ...made, digest, needsConfirmation: losers > usual || (entries.length === 0 && losers > 0), missed: 0 };
  }

  /** Everybody, or those who have to do with one address. */
  async #known(only?: { owner: string | undefined; ids: readonly string[] }): Promise<KnownPerson[]> {
    const { storage } = this.parts;
    const among = only ? ` WHERE id = ? OR directory_id IN (${only.ids.map(() => '?').join(', ') || 'NULL'})` : '';
    const people = await storage.all<{
      id: string;
      directory: string | null;
      state: KnownPerson['state'];
      mark: number;
      kind: string | null;
      mode: string | null;
    }>(
      `SELECT id, directory_id AS "directory", state, kind, mode, CASE WHEN directory_stop IS NULL THEN 0 ELSE 1 END AS "mark" FROM employees${among}`,
      only ? [only.owner ?? '', ...only.ids] : [],
    );
    const theirs = only ? ` AND employee IN (${people.map(() => '?').join(', ') || 'NULL'})` : '';
    const bindings = await storage.all<{ employee: string; address: string; from: number }>(
      `SELECT employee, address, from_time AS "from" FROM bindings WHERE to_time IS NULL${theirs}`,
      only ? people.map(({ id }) => id) : [],
    );
    const byEmployee = new Map<string, typeof bindings>();
    for (const binding of bindings) byEmployee.set(binding.employee, [...(byEmployee.get(binding.employee) ?? []), binding]);
    return people.map(({ id, directory, state, mark, kind, mode }) => ({
      employee: id,
      directory,
      state,
      stoppedBy: state === 'active' ? null : Number(mark) === 1 ? 'directory' : 'operator',
      addresses: byEmployee.get(id) ?? [],
      ...(kind === 'mailbox' ? { nobody: 'shared-mailbox' as const } : mode === 'quorum' ? { nobody: 'recovery-reader' as const } : {}),
    }));
  }

  async #refused(step: Step, fault: Fault, by: AuditActor): Promise<void> {
    const employee = 'employee' in step ? { employee: step.employee } : {};
    await this.parts.storage.write((unit) =>
      this.parts.audit.append(unit, {
        action: 'directory.sync',
        outcome: 'refused',
        reason: fault.code,
        actor: by,
        ...employee,
        facts: { step: step.act },
      }),
    );
  }

  /** An entry where something changed: people, or how the run ended. That nothing changed for the hundredth time is no entry. */
  async #record(ended: Pick<SyncOutcome, 'outcome' | 'reason'>, by: AuditActor, report?: SyncReport): Promise<void> {
    const { storage, audit, clock } = this.parts;
    const last = await readLastSync(storage);
    const outcome: SyncOutcome = { ...ended, time: clock.now().getTime(), questions: report?.questions.length ?? 0 };
    const isNew = last?.outcome !== ended.outcome || last?.reason !== ended.reason || last?.questions !== outcome.questions;
    await storage.write(async (unit) => {
      await writeLastSync(unit, outcome, last);
      if (!isNew && !report?.steps.length) return;
      await audit.append(unit, { action: 'directory.sync', ...ended, actor: by, ...(report ? { facts: countsOf(report) } : {}) });
    });
  }
}

function countsOf({ steps, questions, missed, linked }: SyncReport) {
  const counts: { [N in Step['act'] | 'linked' | 'questions' | 'missed']?: number } = { linked, questions: questions.length, missed };
  for (const { act } of steps) counts[act] = (counts[act] ?? 0) + 1;
  return counts;
}
