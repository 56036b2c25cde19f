import { createPublicKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { loadConfiguration } from '../configuration/index.js';
import { minutesPdf, minutesStatement } from '../custody/index.js';
import { base64url, Fault, sha256 } from '../foundation/index.js';
import { type House, type Installation, openHouse, placesOf } from '../house.js';
import { type Custodian, type CustodyPlan, custodyPlanShape, parsePackage } from '../tokens/index.js';
import { operator } from './act-desk.js';
import { init } from './init.js';
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
  try {
    return {
      name,
      publicKey: createPublicKey(readFileSync(resolve(file)))
        .export({ format: 'der', type: 'spki' })
        .toString('base64'),
    };
  } catch (error) {
    throw new Fault(
      'malformed',
      'custodian-malformed',
      `recovery agent "${text}": say NAME=FILE with a public key in PEM (${(error as Error).message})`,
    );
  }
}

/** Throws `custody-plan`, naming what does not fit. */
export function checkPlan(plan: CustodyPlan): CustodyPlan {
  const known = custodyPlanShape.safeParse(plan);
  if (known.success) return known.data;
  throw new Fault('malformed', 'custody-plan', known.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '));
}

/**
 * Makes an appliance whose keys its custodians can bring back: plan, token with shares, database, minutes. Each step is looked for before it
 * is done, so the same command goes on where a crash left it.
 */
export async function ceremony(
  home: string,
  wanted: CeremonyPlan | undefined,
  installation: Installation,
  say: (line: string) => void,
): Promise<{ minutes: string; shares: string[] }> {
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const begun = begunCeremony(home);
  const plan = begun ?? wanted;
  if (!plan) throw new Fault('misconfigured', 'ceremony-plan', 'say who the custodians are: --custodian NAME=paper … and --shares FOLDER');
  if (!begun) {
    if (existsSync(join(home, 'ca.pem')))
      throw new Fault(
        'conflict',
        'already-initialised',
        `${home} holds an appliance already. Its keys cannot leave its token any more: a ceremony makes a new one`,
      );
    mkdirSync(plan.out, { recursive: true, mode: 0o700 });
    if (readdirSync(plan.out).length > 0)
      throw new Fault('conflict', 'shares-folder', `${plan.out} is not empty: shares go into a folder of their own`);
    writeFileSync(planFile(home), `${JSON.stringify(plan, null, 1)}\n`, { mode: 0o600, flag: 'wx' });
  }
  const { tokenState } = placesOf({ home } as never, installation);
  // Where another user makes the token, only that one could tell.
  if (loadConfiguration(home).token.socket === undefined && !existsSync(tokenState))
    // Of a try that ended before its token was there: those shares open nothing.
    for (const name of readdirSync(plan.out).filter((each) => each.startsWith('share-'))) rmSync(join(plan.out, name));
  if (!existsSync(join(home, 'ca.pem')))
    await init(
      {
        home,
        domains: plan.domains,
        ...(plan.organisation ? { organisation: plan.organisation } : {}),
        custody: { plan: plan.plan, out: plan.out },
        say,
      },
      installation,
    );
  say('writing the minutes');
  const minutes = await writeMinutes(home, plan, installation);
  rmSync(planFile(home));
  return {
    minutes,
    shares: readdirSync(plan.out)
      .filter((each) => each.startsWith('share-'))
      .map((name) => join(plan.out, name)),
  };
}

async function writeMinutes(home: string, plan: CeremonyPlan, installation: Installation): Promise<string> {
  const configuration = loadConfiguration(home);
  const unlock = lockHome(home);
  try {
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
  } finally {
    unlock();
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
