/** What an administrator may do. One person has one role or none: they exclude one another, and none stands above the others. */
export const ROLES = ['security-officer', 'operator', 'auditor', 'recovery-agent'] as const;
export type Role = (typeof ROLES)[number];
