import helmet from '@fastify/helmet';
import fastify from 'fastify';

/** What does not describe an answer's security but the probe that it was read from. */
const OF_THE_PROBE = new Set(['content-length', 'content-type', 'date', 'connection']);

/**
 * Helmet's header fields for pages without script. They are the same for every answer, so they are asked for once, of an application made
 * for that; helmet itself would spell its policy out anew at each request.
 */
export async function securityHeaders(): Promise<Record<string, string>> {
  const probe = fastify();
  await probe.register(helmet, {
    strictTransportSecurity: { includeSubDomains: false },
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], styleSrc: ["'unsafe-inline'"], formAction: ["'self'"], frameAncestors: ["'none'"] },
    },
  });
  probe.get('/', (_request, reply) => reply.send());
  const { headers } = await probe.inject('/');
  await probe.close();
  return Object.fromEntries(Object.entries(headers).flatMap(([name, value]) => (OF_THE_PROBE.has(name) ? [] : [[name, String(value)]])));
}
