/** HTTP: listeners, problems, limits and the appliance's own health. It knows no rules of keys or people. */
export { acceptForms } from './forms.js';
export { Health, type HealthReport } from './health.js';
export { Listeners, type Place } from './listeners.js';
export { OPEN_API, OpenApiController } from './openapi.controller.js';
export { type OpenApiDocument, openApi } from './openapi.js';
export type { JsonSchema } from './openapi-schemas.js';
export { openApiTypes } from './openapi-types.js';
export { OperationController } from './operation.controller.js';
export { type Pages, readPages, servePages } from './pages.js';
export { acceptPlainText } from './plain-text.js';
export { answerProblem, ProblemFilter } from './problem-filter.js';
export { securityHeaders } from './security-headers.js';
