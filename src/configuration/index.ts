/** `ekms.yaml`: its shape, its defaults, and what contradicts itself. */

export {
  type Configuration,
  configurationFile,
  freshConfiguration,
  loadConfiguration,
  parseConfiguration,
  policyOf,
  tokenNamed,
} from './configuration.js';
export type { SinkConfiguration } from './forwarding.js';
