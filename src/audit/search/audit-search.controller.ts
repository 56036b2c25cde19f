import { Controller, Get, Inject, Param, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import { type AdministratorActor, auditActor, Contract, ForAdministrators, Who } from '../../access/index.js';
import { parsed } from '../../foundation/index.js';
import { AuditReports, REPORTS } from '../reports/audit-reports.js';
import { AuditSearch } from './audit-search.js';
import { REPORT_QUESTION, reportQuestion, SEARCH_QUESTION, searchQuestion, shownPage, shownReport } from './question.js';

const entry = z
  .object({
    index: z.int().min(0),
    leaf: z.string().meta({ description: 'Leaf hash, base64url: SHA-256(0x00 ‖ canonical JSON of `entry`)' }),
    entry: z.looseObject({}).meta({ description: 'What the leaf covers: docs/formats/audit-entry.md' }),
    personal: z
      .record(z.string(), z.string())
      .meta({ description: 'Values that digests in the entry stand for, as far as they were not erased' }),
  })
  .meta({ id: 'AuditEntry' });
const page = z
  .object({
    entries: z.array(entry),
    next: z.int().min(0).optional().meta({ description: 'Give it as `before` for older entries; absent at the end of the log.' }),
  })
  .meta({ id: 'AuditEntries', description: 'Newest first. A page may be short or empty and still have a `next`.' });

const report = z
  .object({
    report: z.enum(REPORTS),
    from: z.string().meta({ format: 'date-time' }),
    to: z.string().meta({ format: 'date-time' }),
    rows: z.array(z.record(z.string(), z.union([z.string(), z.number(), z.null()]))),
  })
  .meta({ id: 'AuditReport' });

/** Searching the log, and reports of it, for auditors. */
@Controller('v1/audit')
export class AuditSearchController {
  constructor(
    @Inject(AuditSearch) private readonly search: AuditSearch,
    @Inject(AuditReports) private readonly reports: AuditReports,
  ) {}

  @ForAdministrators('auditor')
  @Get('entries')
  @Contract({
    id: 'searchEntries',
    summary: 'Entries of the log by what they say; the search is an entry too',
    query: SEARCH_QUESTION,
    answers: { 200: { description: 'A page of entries', json: page } },
    problems: { 400: ['body-malformed'], 503: ['search-behind'] },
  })
  async entries(
    @Who() actor: AdministratorActor,
    @Query() query: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof page>> {
    reply.header('cache-control', 'no-store');
    const { filter, before, count } = parsed(searchQuestion, query, 'the question');
    return shownPage(await this.search.find(filter, { before, count }, { actor: auditActor(actor), request: actor.request }));
  }

  @ForAdministrators('auditor')
  @Get('reports/:report')
  @Contract({
    id: 'getReport',
    summary: 'Keys released by day, unusual retrievals, dormant devices, or recoveries; reading it is an entry too',
    path: { report: z.enum(REPORTS) },
    query: REPORT_QUESTION,
    answers: { 200: { description: 'At most 10,000 rows', json: report } },
    problems: { 400: ['body-malformed'] },
  })
  async report(
    @Who() actor: AdministratorActor,
    @Param('report') name: unknown,
    @Query() query: unknown,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<z.input<typeof report>> {
    reply.header('cache-control', 'no-store');
    const which = parsed(z.enum(REPORTS), name, 'the report');
    const range = parsed(reportQuestion, query, 'the question');
    return shownReport(await this.reports.make(which, range, { actor: auditActor(actor), request: actor.request }));
  }
}
