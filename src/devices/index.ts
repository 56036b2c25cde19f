/** Devices: how one is enrolled by control of the mailbox, who they are, and how they end. */
export { AddressOwners } from './address-owners.js';
export { Announcements } from './announcements.js';
export { DeviceRegistry } from './device-registry.js';
export { DeviceRevocations } from './device-revocations.js';
export { DevicesController } from './devices.controller.js';
export { type AnswerOutcome, type BegunEnrolment, EnrolmentDesk, type EnrolmentSettings } from './enrolment.js';
export { EnrolmentsController, FreezesController } from './enrolments.controller.js';
export {
  RegisteredDevices,
  type RegistrationClaim,
  type RegistrationEntry,
  type RegistrationSettings,
  readDeviceAuthorities,
} from './registered-devices.js';
export { StaffEnrolmentsController } from './staff-enrolments.controller.js';
