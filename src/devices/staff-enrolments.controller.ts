import { Body, Controller, Get, HttpCode, Inject, Param, Post } from '@nestjs/common';
import { z } from 'zod';
import { Contract, ForStaff, REFUSALS, type StaffActor, Who } from '../access/index.js';
import { parsed, parsedJson, shapes } from '../foundation/index.js';
import { EnrolmentDesk } from './enrolment.js';

const waiting = z
  .object({
    id: shapes.id,
    platform: z.string(),
    name: z.string().nullable(),
    requestedAt: z.string().meta({ format: 'date-time' }),
  })
  .meta({ id: 'StaffEnrolment' });
const decision = z.strictObject({ confirm: z.boolean() }).meta({ id: 'StaffDecision' });

/** Where `enrolment.second` is `directory`: a person says at the staff page that a device is theirs, signed in by what the organisation vouches for. */
@ForStaff()
@Controller('v1/staff/enrolments')
export class StaffEnrolmentsController {
  constructor(@Inject(EnrolmentDesk) private readonly desk: EnrolmentDesk) {}

  @Get()
  @Contract({
    id: 'listStaffEnrolments',
    summary: 'Devices that wait for this person’s word',
    answers: { 200: { description: 'Oldest first', json: z.array(waiting) } },
  })
  async list(@Who() actor: StaffActor): Promise<z.input<typeof waiting>[]> {
    const enrolments = await this.desk.waitingForStaff(actor);
    return enrolments.map(({ sealed, platform, name, requested }) => ({
      id: sealed.record.id,
      platform,
      name,
      requestedAt: new Date(requested).toISOString(),
    }));
  }

  @Post(':id/confirmation')
  @HttpCode(204)
  @Contract({
    id: 'confirmStaffEnrolment',
    summary: 'Says yes or no to a device that waits',
    path: { id: shapes.id },
    body: decision,
    answers: { 204: { description: 'Said' } },
    problems: { 403: ['directory-proof-needed', 'proof-needed'], 404: ['enrolment-unknown'], ...REFUSALS.audit },
  })
  async decide(@Who() actor: StaffActor, @Param('id') id: string, @Body() body: unknown): Promise<void> {
    await this.desk.decideAsStaff(actor, parsed(shapes.id, id, 'the enrolment id'), parsedJson(decision, body).confirm);
  }
}
