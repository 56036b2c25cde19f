/** Documents for people without a client: encrypted here to whom they name, and forgotten. */
export { PdfController } from './pdf.controller.js';
export { PdfDesk, type PdfSettings, RecoveryReader } from './pdf-desk.js';
export { foreignCertificate } from './recipients.js';
export { PdfWorkers } from './workers.js';
