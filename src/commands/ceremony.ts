import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { Configuration } from '../configuration/index.js';
import { minutesPdf, minutesStatement } from '../custody/index.js';
import { base64url, Fault, sha256 } from '../foundation/index.js';
import { type House, type Installation, openHouse, placesOf } from '../house.js';
import { type Custodian, type CustodyPlan, custodyPlanShape, parsePackage } from '../tokens/index.js';
import { operator } from './act-desk.js';
import { configureHome, initConfigured } from './init.js';
import { lockHome } from './lock.js';

/** What was decided before anything was made; kept in the home, so that a ceremony that was cut off goes on as it began. */
const planShape = z.strictObject({
  plan: custodyPlanShape,
  out: z.string(),
  domains: z.array(z.string()),
  organisation: z.string().optional(),
  present: z.array(z.string().max(80)),
  began: z.string(),
});
export type CeremonyPlan = z.output<typeof planShape>;

const planFile = (home: string): string => join(home, 'ceremony.json');

/** The plan of a ceremony that was begun and not finished. */
export function begunCeremony(home: string): CeremonyPlan | undefined {
  if (!existsSync(planFile(home))) return undefined;
  const known = planShape.safeParse(JSON.parse(readFileSync(planFile(home), 'utf8')));
  if (!known.success)
    throw new Fault('misconfigured', 'ceremony-plan', `${planFile(home)} is not a ceremony's plan: remove it to begin anew`);
  return known.data;
}

/** `NAME=paper`, `NAME=age1…`, `NAME=FILE` with a certificate in PEM or DER. Throws `custodian-malformed`. */
export function parseCustodian(text: string): Custodian {
  const [, name = '', to = ''] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (name === '')
    throw new Fault('malformed', 'custodian-malformed', `say who and how: NAME=paper, NAME=age1… or NAME=CERTIFICATE-FILE, not "${text}"`);
  if (to === 'paper') return { name, recipient: { kind: 'paper' } };
  if (to.startsWith('age1')) return { name, recipient: { kind: 'age', recipient: to } };
  try {
    const certificate = new X509Certificate(readFileSync(resolve(to)));
    return { name, recipient: { kind: 'certificate', der: certificate.raw.toString('base64') } };
  } catch (error) {
    throw new Fault('malformed', 'custodian-malformed', `${name}: ${to} is no certificate that can be read (${(error as Error).message})`);
  }
}

/** `NAME=FILE` with a public key in PEM: the agent signs approvals with its private part, on a smart card or by openssl. Throws `custodian-malformed`. */
export function parseAgent(text: string): { name: string; publicKey: string } {
  const [, name = '', file = ''] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  const unfit = (why: string) =>
    new Fault('malformed', 'custodian-malformed', `recovery agent "${text}": say NAME=FILE with a public key in PEM (${why})`);
  let key: KeyObject;
  try {
    const read = readFileSync(resolve(file), 'utf8');
    if (read.includes('PRIVATE KEY')) throw new Error('this is a private key, which stays with the agent: openssl pkey -in FILE -pubout');
    key = createPublicKey(read);
  } catch (error) {
    throw unfit((error as Error).message);
  }
  // Of another kind it would be an agent who can never sign, found out when the quorum is needed.
  if (!['ed25519', 'ec', 'rsa'].includes(key.asymmetricKeyType ?? ''))
    throw unfit(`keys of kind ${key.asymmetricKeyType} sign nothing here: Ed25519, ECDSA or RSA`);
  return { name, publicKey: key.export({ format: 'der', type: 'spki' }).toString('base64') };
}

/** Throws `custody-plan`, naming what does not fit. */
export function checkPlan(plan: CustodyPlan): CustodyPlan {
  const known = custodyPlanShape.safeParse(plan);
  if (known.success) return known.data;
  throw new Fault('malformed', 'custody-plan', known.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '));
}

/**
 * Makes an appliance whose keys its custodians can bring back: plan, token with shares, database, minutes. Each step is looked for before it
 * is done, so the same command goes on where a crash left it. Another plan than the begun one takes its place while no token can have been made
 * for that, and is refused afterwards (`ceremony-begun`): nobody is ever given a share who is not of the plan that was asked for.
 */
export async function ceremony(
  home: string,
  wanted: CeremonyPlan | undefined,
  installation: Installation,
  say: (line: string) => void,
  publicName?: string,
): Promise<{ minutes: string; shares: string[]; out: string }> {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const unlock = lockHome(home);
  try {
    const begun = begunCeremony(home);
    if (!begun && existsSync(join(home, 'ca.pem')))
      throw new Fault(
        'conflict',
        'already-initialised',
        `${home} holds an appliance already. Its keys cannot leave its token any more: a ceremony makes a new one`,
      );
    if (!begun && !wanted)
      throw new Fault('misconfigured', 'ceremony-plan', 'say who the custodians are: --custodian NAME=paper … and --shares FOLDER');
    // What could not be done as it stands is not begun.
    const configuration = configureHome(home, wanted?.domains ?? [], publicName);
    const plan = settle(configuration, installation, begun, wanted, say);
    if (!existsSync(join(home, 'ca.pem'))) {
      const { organisation, out } = plan;
      const custody = { plan: plan.plan, out };
      await initConfigured(configuration, { ...(organisation ? { organisation } : {}), custody, say }, installation);
    }
    say('writing the minutes');
    const minutes = await writeMinutes(configuration, plan, installation);
    rmSync(planFile(home));
    return { minutes, shares: sharesIn(plan.out), out: plan.out };
  } finally {
    unlock();
  }
}

/** Milliseconds that a file's time may be before it was written: FAT keeps every second one. */
const COARSE = 2_000;

const sharesIn = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((each) => each.startsWith('share-'))
        .map((name) => join(folder, name))
    : [];

/** The plan that is gone on with, written down. */
function settle(
  configuration: Configuration,
  installation: Installation,
  begun: CeremonyPlan | undefined,
  wanted: CeremonyPlan | undefined,
  say: (line: string) => void,
): CeremonyPlan {
  const { home } = configuration;
  // Where another user makes the token, only that one could tell.
  const { tokenState, rootCertificate } = placesOf(configuration, installation);
  const mayHaveToken = configuration.token.socket !== undefined || existsSync(tokenState) || existsSync(rootCertificate);
  const isOther = begun !== undefined && wanted !== undefined && !isDeepStrictEqual({ ...begun, began: '' }, { ...wanted, began: '' });
  if (isOther && mayHaveToken) throw begunOtherwise(home, begun);
  if (begun && !mayHaveToken) removeUseless(begun);
  const plan = isOther ? wanted : (begun ?? wanted);
  if (!plan) throw new Error('a ceremony without a plan'); // looked at before
  if (plan !== begun) {
    makeEmpty(plan.out);
    if (begun) {
      say(`the ceremony that was begun ${begun.began} had made nothing: this one takes its place`);
      rmSync(planFile(home));
    }
    writeFileSync(planFile(home), `${JSON.stringify(plan, null, 1)}\n`, { mode: 0o600, flag: 'wx' });
  }
  if (statSync(plan.out, { throwIfNoEntry: false })?.dev === statSync(home).dev)
    say(`the shares are on one disk with the appliance: bring them to their custodians, and leave none in ${plan.out}`);
  return plan;
}

function begunOtherwise(home: string, { began, plan, out }: CeremonyPlan): Fault {
  const who = plan.custodians.map(({ name }) => name).join(', ');
  return new Fault(
    'conflict',
    'ceremony-begun',
    `another ceremony was begun here ${began}, with other words (custodians ${who}; ${plan.threshold} needed; shares in ${out}), and its token may have been made: ` +
      `say  ekms ceremony  without options to go on with it. If there is no token yet, remove ${planFile(home)} and say this again`,
  );
}

/** Shares of a try that ended before its token was there: they open nothing. Throws `shares-folder` where one was there before: another medium may lie at this place now. */
function removeUseless({ began, out }: CeremonyPlan): void {
  const shares = sharesIn(out);
  for (const share of shares)
    if (statSync(share).mtimeMs < Date.parse(began) - COARSE)
      throw new Fault(
        'conflict',
        'shares-folder',
        `${share} is older than the ceremony that was begun here, so it is of another: is this the right medium?`,
      );
  for (const share of shares) rmSync(share);
}

/** The folder above is not made: where a medium is not mounted the shares would lie on this machine's disk. Throws `shares-folder`. */
function makeEmpty(folder: string): void {
  try {
    if (!existsSync(folder)) mkdirSync(folder, { mode: 0o700 });
    if (readdirSync(folder).length === 0) return;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? `${dirname(folder)} does not exist: is the medium mounted?` : message;
    throw new Fault('conflict', 'shares-folder', `${folder} cannot be used for the shares: ${why}`);
  }
  throw new Fault('conflict', 'shares-folder', `${folder} is not empty: shares go into a folder of their own`);
}

async function writeMinutes(configuration: Configuration, plan: CeremonyPlan, installation: Installation): Promise<string> {
  const house = await openHouse(configuration, installation);
  try {
    const text = await house.token.custody();
    if (text === null) throw new Fault('conflict', 'no-custodians', 'the token of this home was made without custodians');
    const custody = parsePackage(text).package;
    const minutes = await minutesInto(house, plan.out, plan.present, [
      { time: plan.began, done: 'the ceremony was begun' },
      {
        time: custody.created,
        done: 'token, keys and authorities were made; each key was wrapped for the custodians before it took service',
      },
      {
        time: custody.created,
        done: 'the ceremony key was split, each share sealed, and the copies were opened once with recombined shares',
      },
    ]);
    await house.storage.write(async (unit) => {
      if (await unit.one("SELECT idx FROM audit_entries WHERE action = 'custody.ceremony' LIMIT 1")) return;
      await house.audit.append(unit, {
        action: 'custody.ceremony',
        outcome: 'done',
        actor: operator(),
        facts: { ceremony: base64url(custody.ceremony), threshold: custody.threshold, shares: custody.shares.length, minutes },
      });
    });
    return join(plan.out, 'minutes.pdf');
  } finally {
    await house.close();
  }
}

/** Writes `minutes.pdf` and what the token signs of it. Resolves with its digest, as an entry has it. */
export async function minutesInto(
  { configuration, token, clock }: House,
  out: string,
  present: string[],
  steps: { time: string; done: string }[],
): Promise<string> {
  const text = await token.custody();
  if (text === null) throw new Fault('conflict', 'no-custodians', 'the token of this home was made without custodians');
  const { label, module } = configuration.token;
  const facts = {
    appliance: configuration.publicName,
    token: { label, module },
    present,
    custody: parsePackage(text).package,
    steps: [...steps, { time: clock.now().toISOString(), done: 'these minutes were written' }],
  };
  const pdf = await minutesPdf(facts);
  const statement = await token.attest('minutes', minutesStatement(facts, pdf));
  writeFileSync(join(out, 'minutes.jws'), `${statement}\n`, { mode: 0o600 });
  writeFileSync(join(out, 'minutes.pdf'), pdf, { mode: 0o600 });
  return base64url(sha256(pdf));
}
