import { z } from 'zod';

/** What is counted. */
const COUNTERS = ['challenges', 'enrolments', 'retrievals', 'decryptions', 'readings', 'documents', 'signIns'] as const;
export type Counter = (typeof COUNTERS)[number];

/** On whose account, narrowest first. `mailbox`: one address asked for from one source. `rollout`: a declared window of a site. */
const SCOPES = ['mailbox', 'source', 'device', 'person', 'app', 'site', 'appliance', 'rollout'] as const;
export type Scope = (typeof SCOPES)[number];

/** How many in each minute and in each day (UTC). Without `day`, any number: a day is too long to be shut out by a neighbour. */
export interface Limit {
  minute: number;
  day?: number;
}

/** Large enough to lift a limit, small enough to count. */
const MOST = 1_000_000_000;
const many = z.int().min(1).max(MOST);
const short = (minute: number) => z.strictObject({ minute: many.default(minute) }).prefault({});
const limit = (minute: number, day: number) => z.strictObject({ minute: many.default(minute), day: many.default(day) }).prefault({});
const instant = z.iso.datetime({ offset: true, message: 'must be a time such as 2026-03-02T08:00:00Z' });

/** `budgets:` of ekms.yaml. The defaults suit a site of ten thousand people whose clients ask some tens of times a day. */
export const budgetsShape = z
  .strictObject({
    /** Requests to enrol, each of which may send a mail. */
    challenges: z
      .strictObject({
        mailbox: short(20),
        source: short(300),
        app: limit(1_200, 40_000),
        site: limit(600, 20_000),
        appliance: limit(1_200, 40_000),
      })
      .prefault({}),
    /** Devices that come in. */
    enrolments: z
      .strictObject({
        person: limit(10, 30),
        source: short(120),
        app: limit(600, 10_000),
        site: limit(300, 5_000),
        appliance: limit(600, 10_000),
      })
      .prefault({}),
    /** `GET /v1/keys`, however many keys it brings. */
    retrievals: z
      .strictObject({
        device: limit(120, 2_000),
        person: limit(240, 4_000),
        app: limit(60_000, 4_000_000),
        site: limit(20_000, 1_000_000),
        appliance: limit(60_000, 4_000_000),
      })
      .prefault({}),
    /** Remote mode: one for each mail opened, and each one a question to the token (SECURITY.md says why few). */
    decryptions: z
      .strictObject({
        device: limit(30, 500),
        person: limit(60, 1_000),
        app: limit(6_000, 400_000),
        site: limit(2_000, 100_000),
        appliance: limit(6_000, 400_000),
      })
      .prefault({}),
    /** Pages of `GET /v1/me/uses`: each writes an entry about each key of its reader, and has a head signed. Whoever reads years of them reads hundreds. */
    readings: z
      .strictObject({
        device: limit(600, 20_000),
        person: limit(1_200, 40_000),
        app: limit(60_000, 4_000_000),
        site: limit(20_000, 1_000_000),
        appliance: limit(60_000, 4_000_000),
      })
      .prefault({}),
    /** Documents that the appliance encrypts or reads; each takes a thread for seconds and room on the disk. */
    documents: z.strictObject({ person: limit(60, 2_000), site: limit(600, 20_000), appliance: limit(1_200, 40_000) }).prefault({}),
    /** Entries of the log that one source (a device, or an address) can cause by being refused; the others are counted. */
    refusals: z.strictObject({ source: limit(120, 5_000) }).prefault({}),
    /** Tries to sign in at the staff pages, each of which may send a mail or try a password. */
    signIns: z.strictObject({ source: short(60), site: limit(600, 20_000), appliance: limit(1_200, 40_000) }).prefault({}),
    /** Times in which many come in at once by agreement: they draw on this and not on the budgets of source, app, site and appliance. */
    rollouts: z
      .array(
        z
          .strictObject({ network: z.string().min(1), from: instant, to: instant, count: z.int().min(1).max(1_000_000) })
          .refine(({ from, to }) => Date.parse(from) < Date.parse(to), { path: ['to'], message: 'must be later than from' }),
      )
      .default([]),
  })
  .prefault({});
export type BudgetLimits = z.output<typeof budgetsShape>;

/** Requests to enrol for each device that a roll-out expects: people try again. */
export const TRIES = 4;

export const MINUTE = 60_000;
export const DAY = 86_400_000;
