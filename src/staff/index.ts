/** Staff: how employees sign in at their pages, by a mailed code, at the organisation's OpenID Connect provider, or by their directory password. */
export { Attempts } from './attempts.js';
export { IdentityProvider, OpenIdProvider, type ProviderSettings } from './identity-provider.js';
export { MailedCode } from './mailed-code.js';
export { Membership } from './membership.js';
export { OidcSignIn } from './oidc-sign-in.js';
export { DirectoryPassword } from './password.js';
export { StaffController } from './staff.controller.js';
export { StaffDoors } from './staff-doors.js';
export { type SignInMethod, StaffSessions } from './staff-session.js';
