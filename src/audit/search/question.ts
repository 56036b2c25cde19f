import { z } from 'zod';
import { isAuditAction } from '../../foundation/index.js';
import type { Report } from '../reports/audit-reports.js';
import type { SearchPage } from './audit-search.js';

/** An id or word as the log has them: what is none finds nothing. */
const word = z.string().min(1).max(128);
const time = z.iso.datetime({ offset: true, message: 'must be a time such as 2026-03-02T08:00:00Z' });
const whole = (most: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, 'must be a whole number')
    .transform(Number)
    .refine((n) => n <= most, `must be at most ${most}`);
const PAGE = { usual: 50, most: 500 } as const;

/** What may be asked, by name, as it stands in a query or on the command line: all of it text. */
export const SEARCH_QUESTION = {
  person: z.string().min(1).max(254).optional().meta({ description: 'Id of an employee, or an e-mail address.' }),
  key: word.optional(),
  device: word.optional(),
  subject: word.optional().meta({ description: 'Id that an act was about.' }),
  action: word.refine(isAuditAction, 'is no action of this log (docs/formats/audit-entry.md)').optional(),
  outcome: z.enum(['done', 'refused', 'failed']).optional(),
  address: z.string().min(1).max(64).optional().meta({ description: 'Network address that was asked from.' }),
  from: time.optional(),
  to: time.optional().meta({ description: 'Before this time.' }),
  before: whole(Number.MAX_SAFE_INTEGER).optional().meta({ description: '`next` of the page before.' }),
  count: whole(PAGE.most)
    .optional()
    .meta({ description: `Entries wanted; ${PAGE.usual} unless said, at most ${PAGE.most}.` }),
} as const;

const { before: _before, count: _count, ...FILTER } = SEARCH_QUESTION;
/** The same without pages: all that fits. */
export const FILTER_QUESTION = FILTER;

export const searchQuestion = z.strictObject(SEARCH_QUESTION).transform(({ address, from, to, before, count, ...rest }) => ({
  filter: {
    ...rest,
    network: address,
    from: from === undefined ? undefined : Date.parse(from),
    to: to === undefined ? undefined : Date.parse(to),
  },
  before,
  count: Math.max(1, count ?? PAGE.usual),
}));

export const shownPage = ({ entries, next }: SearchPage) => ({
  entries: entries.map(({ index, leaf, body, personal }) => ({ index, leaf: leaf.toString('base64url'), entry: { ...body }, personal })),
  ...(next === undefined ? {} : { next }),
});

export const REPORT_QUESTION = {
  from: time.optional().meta({ description: 'Not before; for dormant devices, since when.' }),
  to: time.optional().meta({ description: 'Before this time; now, unless said.' }),
} as const;
export const reportQuestion = z.strictObject(REPORT_QUESTION).transform(({ from, to }) => ({
  ...(from === undefined ? {} : { from: Date.parse(from) }),
  ...(to === undefined ? {} : { to: Date.parse(to) }),
}));

export const shownReport = ({ report, from, to, rows }: Report) => ({
  ...{ report, from: new Date(from).toISOString(), to: new Date(to).toISOString(), rows },
});
