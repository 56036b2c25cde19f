/** Making this machine a device of an employee (docs/formats/enrolment.md). */
export type { EnrolmentAsk, Patience, Say } from './answer.js';
export { type Challenge, readChallenge } from './challenge.js';
export { enrol, pinnedRoot } from './enrol.js';
