import type { Configuration } from '../configuration/index.js';
import { Fault } from '../foundation/index.js';
import { authorityUrls } from '../house.js';

/** What goes into the authorities' certificates, as the token process asks for it. Nothing secret, and nothing that it would run or read. */
export function tokenRequest(configuration: Configuration, organisation?: string) {
  const { authorities, domains, publicName } = configuration;
  if (domains.length === 0)
    throw new Fault('misconfigured', 'domain-missing', 'ekms.yaml names no mail domain: add domains: [corp.example]');
  return {
    authorities,
    organisation: organisation ?? domains[0] ?? 'EKMS',
    domains,
    publicName,
    urls: authorityUrls(configuration),
  };
}
