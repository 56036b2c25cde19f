import type { ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RefusedConnections, type RouteClass } from './access/index.js';
import { appModule } from './app.module.js';
import { newId } from './foundation/index.js';
import type { House } from './house.js';
import { acceptForms, acceptPlainText, answerProblem, Listeners, type Place, securityHeaders, servePages } from './http/index.js';
import { inTurn, rotationsOf, type Step, upkeepOf } from './upkeep.js';

/** Bytes of a JSON body: the largest is an enrolment, about 4 KiB. */
const BODY_BYTES = 64 * 1024;
const HOUR = 3_600_000;
/** Between two looks at refusals that were counted only. */
const HALF_MINUTE = 30_000;

export interface Appliance {
  places: Record<RouteClass, Place>;
  /** Ends listeners and timers; the house stays open. */
  close(): Promise<void>;
}

/**
 * Starts serving: application, listeners, pool, mail, and the periodic renewal of certificates and lists.
 * @param tell hears what the operator should: of the network policy at start, of ways out of the isolated network at any time
 */
export async function startAppliance(
  house: House,
  defect: (error: unknown, request: string) => void,
  tell: (line: string) => void = () => undefined,
): Promise<Appliance> {
  const { configuration, authorities, infrastructure, health } = house;
  /** Hears what goes wrong in a part of the work that nobody waits for. */
  const defectIn = (part: string) => (error: unknown) => defect(error, part);
  for (const line of await house.networks.start()) tell(line);
  await house.isolation.start(tell, defectIn('isolation'));
  const app = await application(house, defect);
  const fastify = app.getHttpAdapter().getInstance() as unknown as FastifyInstance; // Nest's own type names another copy of the same Fastify
  const refusals = new RefusedConnections(house, house.clock, defectIn('refused connections'));
  const listeners = new Listeners(fastify, {
    policy: () => house.networks.policy,
    refused: (kind, network, rule) => {
      health.refusedConnection(kind);
      refusals.add(kind, network, rule);
    },
  });
  const hosts = (['client', 'administration', 'staff'] as const).map((kind) => configuration.listen[kind].host);
  // One name that the authority's constraints do not permit spoils the whole certificate (RFC 5280 §6.1.4); addresses they do not limit.
  const permitted = (name: string) =>
    isIP(name) !== 0 || [configuration.publicName, ...configuration.domains].some((base) => name === base || name.endsWith(`.${base}`));
  const names = [
    ...new Set([
      configuration.publicName,
      ...hosts.flatMap((host) => (isLoopback(host) ? ['localhost', '127.0.0.1'] : [host])).filter(permitted),
    ]),
  ];
  let tls: Awaited<ReturnType<House['infrastructure']['tlsServer']>>;
  let places: Appliance['places'];
  try {
    tls = await infrastructure.tlsServer(names);
    places = {
      client: await listeners.openTls('client', configuration.listen.client, tls, () => authorities.trusted('devices')),
      administration: await listeners.openTls('administration', configuration.listen.administration, tls),
      staff: await listeners.openTls('staff', configuration.listen.staff, tls),
      public: await listeners.openPlain('public', configuration.listen.public),
      operation: await listeners.openPlain('operation', configuration.listen.operation),
    };
    for (const audience of ['administration', 'staff'] as const) house.origins.opened(audience, places[audience].port);
  } catch (error) {
    house.isolation.stop();
    await listeners.close(0);
    await app.close();
    throw error;
  }
  const unfollow = house.networks.follow(() => {
    listeners.renew(tls);
    listeners.judgeAgain();
    // From here on other rules hold: who was let in by which is signed at once.
    void house.checkpoints.publish().then(
      () => house.witnesses.look(),
      () => undefined,
    );
  });
  const unwatch = house.networks.watch(defectIn('network policy'));
  const counting = setInterval(() => refusals.tick(), 1_000);
  const renewTls = async () => {
    tls = await infrastructure.tlsServer(names);
    listeners.renew(tls);
  };
  house.tls.renew = renewTls;
  // One by a former authority is replaced as soon as this node hears of the next, for that one may be retired.
  const tlsIsDue = () =>
    tls.notAfter - house.clock.now().getTime() < 3 * 24 * HOUR || !tls.authority.equals(authorities.serving('infrastructure').certificate);
  const unfollowAuthorities = authorities.follow(() => {
    listeners.renew(tls);
    if (tlsIsDue()) void renewTls().catch(defectIn('TLS certificate'));
  });
  const tlsStep: Step = ['TLS certificate', async () => void (tlsIsDue() && (await renewTls()))];
  let timer: NodeJS.Timeout | undefined;
  let counted: NodeJS.Timeout | undefined;
  let sync: ReturnType<NonNullable<House['directorySync']>['every']> | undefined;
  const close = async () => {
    clearInterval(timer);
    clearInterval(counted);
    await sync?.stop();
    clearInterval(counting);
    house.clockWatch.stop();
    unwatch();
    unfollow();
    unfollowAuthorities();
    house.isolation.stop();
    await house.renewal.stop();
    await listeners.close(5_000);
    await refusals.flush();
    await app.close();
    await house.searchIndex.stop();
    await house.forwarder.stop();
    await house.audit.settle(house.storage, true).catch(defectIn('counted refusals'));
  };
  try {
    await house.revocations.publishDue();
    // What was sealed until a day on which nothing ran is told now, not an hour later.
    await house.sealedEntries.unsealDue().catch(defectIn('sealed entries'));
    timer = setInterval(() => void inTurn(upkeepOf(house, tlsStep), defect), HOUR);
    sync = house.directorySync?.every((configuration.directory?.everyMinutes ?? 15) * 60_000, defectIn('directory sync'));
    counted = setInterval(() => {
      void house.audit.settle(house.storage).catch(defectIn('counted refusals'));
      // A token that is away is told of elsewhere.
      void authorities.refresh().catch(() => undefined);
    }, HALF_MINUTE);
    await house.clockWatch.begin(defectIn('clock'));
    await house.witnesses.begin();
    await house.checkpoints.begin();
    house.forwarder.begin();
    house.logCopy?.begin();
    house.searchIndex.begin(defectIn('search index'));
    house.mail.start();
    house.pool.start();
    house.rotation.resume();
    house.renewal.begin(defectIn('renewal of keys'));
    await inTurn(rotationsOf(house), defect);
    return { places, close };
  } catch (error) {
    // A listener or a timer left open would keep a process that serves nobody from ending, and its supervisor from starting another.
    await close().catch((second: unknown) => defect(second, 'end of a failed start'));
    throw error;
  }
}

async function application(house: House, defect: (error: unknown, request: string) => void): Promise<NestFastifyApplication> {
  const adapter = new FastifyAdapter({
    bodyLimit: BODY_BYTES,
    genReqId: () => newId(),
    trustProxy: false,
    exposeHeadRoutes: false,
    frameworkErrors: (error: unknown, request: FastifyRequest, reply: FastifyReply) => answerProblem(error, request, reply, defect),
  });
  const app = await NestFactory.create<NestFastifyApplication>(appModule(house, defect), adapter, {
    logger: ['error'],
    abortOnError: false,
    bodyParser: false,
  });
  const fastify = app.getHttpAdapter().getInstance() as unknown as FastifyInstance; // as above
  fastify.removeAllContentTypeParsers();
  // JSON stays bytes until its route parses it: the app credential signs bytes.
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  fastify.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  acceptPlainText(fastify, ['/v1/witness/add-checkpoint']);
  await acceptForms(fastify);
  const headers = await securityHeaders();
  fastify.addHook('onRequest', (_request, reply, done) => {
    reply.headers(headers);
    done();
  });
  fastify.addHook('onResponse', (request, reply, done) => {
    house.health.count(request.routeOptions.url ?? 'none', (reply as { raw: ServerResponse }).raw.statusCode);
    done();
  });
  servePages(fastify, house.pages, defect);
  await app.init();
  await fastify.ready();
  return app;
}

const isLoopback = (host: string): boolean => /^127\.|^::1$|^localhost$/.test(host);
