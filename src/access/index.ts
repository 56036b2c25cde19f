/** Access: who may ask. Only this room makes an `Actor`; whoever holds one has passed the guard. */
export { type AppActor, auditActor, type DeviceActor, type Request } from './actor.js';
export { type AppCredentialFile, AppCredentials } from './app-credentials.js';
export { type Admitted, type Answer, Contract, declared, On, REFUSALS, type RouteContract } from './contract.js';
export { DeviceGuard } from './device-guard.js';
export { DeviceTrust, type KnownDevice } from './device-trust.js';
export { type Challenge, EmailChallenge, forgetExpired } from './email-challenge.js';
export { type Binding, Employees } from './employees.js';
export { type Network, NetworkPolicy, type RouteClass } from './network-policy.js';
export { registerPeer } from './peer.js';
export { RefusalEntries } from './refusal-entries.js';
export { ForApps, ForDevices, type GuardedRequest, RouteClassGuard, Who } from './routes.js';
