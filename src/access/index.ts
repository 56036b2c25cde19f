/** Access: who may ask. Only this room makes an `Actor`; whoever holds one has passed the guard. */
export { type AdministratorActor, type AppActor, auditActor, type DeviceActor, type StaffActor } from './actor.js';
export { AddressBlocks, plainAddress, readAddress, sourceOf } from './address-blocks.js';
export { type AppCredentialFile, AppCredentials } from './app-credentials.js';
export { type BudgetLimits, budgetsShape } from './budget-limits.js';
export { Budgets, type Spending } from './budgets.js';
export { ClientVersions, VERSION } from './client-versions.js';
export { type Admitted, type Answer, Contract, declared, type FormField, On, REFUSALS, type RouteContract } from './contract.js';
export { DeviceGuard } from './device-guard.js';
export { DeviceTrust, type KnownDevice } from './device-trust.js';
export { DocumentReader } from './document-reader.js';
export { type Challenge, EmailChallenge, forgetExpired } from './email-challenge.js';
export { type Binding, type BindingRow, Employees, sealedBinding } from './employees.js';
export { type Destination, type FirewallSettings, nftables, systemdDropIn } from './firewall.js';
export { type IsolationFinding, IsolationGuard } from './isolation-guard.js';
export { type KnownAdministrator, KnownAdministrators } from './known-administrators.js';
export { NetworkPolicies, type PolicyForecast, type PolicyVersion } from './network-policies.js';
export {
  type NamedProxy,
  NetworkPolicy,
  type PolicyDocument,
  policyContradictions,
  policyParts,
  type RefusalRule,
  ROUTE_CLASSES,
  type RouteClass,
  readPolicy,
} from './network-policy.js';
export { type Audience, Origins } from './origins.js';
export { peerOf, registerClaim, registerPeer } from './peer.js';
export { RefusalEntries } from './refusal-entries.js';
export { RefusedConnections } from './refused-connections.js';
export type { Request } from './request.js';
export {
  ForAdministrators,
  ForApps,
  ForDevices,
  ForDevicesAndAdministrators,
  ForOwnPages,
  ForPeople,
  ForStaff,
  type GuardedRequest,
  provenance,
  RouteClassGuard,
  Who,
} from './routes.js';
export { RowSeal } from './row-seal.js';
export { SessionGuard } from './session-guard.js';
export { type Session, type SessionLife, Sessions } from './sessions.js';
export { type Membership, SharedMailboxes } from './shared-mailboxes.js';
export { Sites } from './sites.js';
export { Surroundings, ThisMachine } from './surroundings.js';
