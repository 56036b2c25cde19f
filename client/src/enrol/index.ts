/** Making this machine a device of an employee (docs/formats/enrolment.md). */
export { type Challenge, readChallenge } from './challenge.js';
export { type EnrolmentAsk, enrol, PATIENCE, type Patience, pinnedRoot, type Say } from './enrol.js';
