/** The arc of EKMS (docs/formats/enrolment.md). Repeated here, not imported: a client speaks HTTP and formats, and knows nothing else of the server. */
const ARC = '2.25.74668294882190335279802394242528196250';

export const POLICY = { mailSigning: `${ARC}.1.5`, deliverySigning: `${ARC}.1.6` } as const;
export const USAGE = { emailProtection: '1.3.6.1.5.5.7.3.4' } as const;
