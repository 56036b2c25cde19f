import { Fault } from '../../foundation/index.js';

export const damaged = (why: string) => new Fault('malformed', 'pdf-damaged', `the PDF is damaged: ${why}`);
export const excessive = (why: string) => new Fault('too-large', 'pdf-excessive', `the PDF asks for more than a document needs: ${why}`);
export const unsupported = (why: string) => new Fault('malformed', 'pdf-unsupported', `this PDF cannot be handled: ${why}`);
