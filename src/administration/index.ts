/** Administration: who administers, how they sign in, and what takes two of them. */
export { AdministratorSignIn } from './administrator-sign-in.js';
export { AdministratorsController } from './administrators.controller.js';
export { type Administrator, Administrators } from './administrators.js';
export { type ActRequest, Approvals, type Quorum } from './approvals.js';
export { BreakGlass, type BreakGlassCase } from './break-glass.js';
export { type InvitationLink, Invitations } from './invitations.js';
export { assertion, Passkeys } from './passkeys.js';
export { SignInController } from './sign-in.controller.js';
export { SpendingStorage } from './spending-storage.js';
