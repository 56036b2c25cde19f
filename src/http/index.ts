/** HTTP: listeners, problems, limits and the appliance's own health. It knows no rules of keys or people. */
export { Health, type HealthReport } from './health.js';
export { Listeners, type Place } from './listeners.js';
export { OperationController } from './operation.controller.js';
export { ProblemFilter } from './problem-filter.js';
