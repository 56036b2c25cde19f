import { Controller, Delete, Get, HttpCode, Inject, Param } from '@nestjs/common';
import { type DeviceActor, ForDevices, Who } from '../access/index.js';
import { parsed, shapes } from '../foundation/index.js';
import { DeviceRegistry } from './device-registry.js';

@ForDevices()
@Controller('v1/devices')
export class DevicesController {
  constructor(@Inject(DeviceRegistry) private readonly registry: DeviceRegistry) {}

  @Get()
  async list(@Who() actor: DeviceActor) {
    const devices = await this.registry.ofEmployee(actor.employee);
    return devices.map(({ id, platform, name, state, enrolled }) => ({ id, platform, name, state, enrolledAt: new Date(enrolled).toISOString(), current: id === actor.id }));
  }

  @Delete(':id')
  @HttpCode(204)
  async remove(@Who() actor: DeviceActor, @Param('id') id: string): Promise<void> {
    await this.registry.removeOwn(actor, parsed(shapes.id, id, 'the device id'));
  }
}
