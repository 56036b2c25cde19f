import { Controller, Delete, Get, HttpCode, Inject, Param } from '@nestjs/common';
import { z } from 'zod';
import { Contract, type DeviceActor, ForDevices, REFUSALS, Who } from '../access/index.js';
import { parsed, shapes } from '../foundation/index.js';
import { DeviceRegistry } from './device-registry.js';
import { device } from './devices-shapes.js';

@ForDevices()
@Controller('v1/devices')
export class DevicesController {
  constructor(@Inject(DeviceRegistry) private readonly registry: DeviceRegistry) {}

  @Get()
  @Contract({
    id: 'listDevices',
    summary: "All devices, current and former, of the device's person",
    answers: { 200: { description: 'The devices, oldest first', json: z.array(device) } },
  })
  async list(@Who() actor: DeviceActor): Promise<z.input<typeof device>[]> {
    const devices = await this.registry.ofEmployee(actor.employee);
    return devices.map(({ id, platform, name, state, enrolled }) => ({
      id,
      platform,
      name,
      state,
      enrolledAt: new Date(enrolled).toISOString(),
      current: id === actor.id,
    }));
  }

  @Delete(':id')
  @HttpCode(204)
  @Contract({
    id: 'removeDevice',
    summary: 'Ends the device that asks, for good',
    path: { id: shapes.id },
    answers: { 204: { description: 'Its certificate is revoked' } },
    problems: { ...REFUSALS.token, 403: ['second-proof-needed'], 404: ['device-unknown'], 409: ['device-ended'] },
  })
  async remove(@Who() actor: DeviceActor, @Param('id') id: string): Promise<void> {
    await this.registry.removeOwn(actor, parsed(shapes.id, id, 'the device id'));
  }
}
