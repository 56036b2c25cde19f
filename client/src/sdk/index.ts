/** A typed client of the appliance's device interface (docs/formats/enrolment.md, docs/formats/delivery.md). */
export { type AppCredential, readAppCredential, signedFields } from './app-credential.js';
export { type AnswerOutcome, EkmsClient, type EnrolmentRequest } from './client.js';
export type { EnrolmentAnswer, ProblemCode, Routes } from './contract.js';
export { ApiProblem, isProblem } from './problem.js';
export type { Decryption, Device, Enrolled, Enrolment, KeyUses, PendingEnrolment, RecoveryCase, ServedKey } from './shapes.js';
export { parseServer, type TransportOptions } from './transport.js';
export { CLIENT_VERSION } from './version.js';
