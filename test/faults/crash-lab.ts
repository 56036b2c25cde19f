import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AppCredential } from '../../client/src/sdk/index.js';
import { checkLog } from '../../src/audit/index.js';
import { checkData } from '../../src/commands/consistency.js';
import { openIntents } from '../../src/storage/index.js';
import { CrashHome, type Engine } from '../support/crash-home.js';
import type { Plan } from '../support/crashing-parts.js';
import { type DeviceKeys, enrolDevice, newDeviceKeys, newIdentity } from '../support/wire-device.js';
import { Enrolment, Leave, Memory, Person, Reassignment, Replacement, Retrieval, Revocation, type Site, type Story } from './stories.js';

const ENTRY = resolve(import.meta.dirname, '../support/crashing-serve.mjs');
/** RSA pairs for devices are slow to make and of no matter here: each run uses these, on a home of its own. */
const DELIVERY_KEYS = 12;
const VETERANS = { ada: 2, bob: 2, cyd: 1, dan: 2, eve: 1 } as const;

export interface Outcome {
  fired: boolean;
  /** Enrolments and releases that devices had in hand when the appliance died. */
  acknowledged: number;
  /** Milliseconds from its death to serving again. */
  readyAgain: number;
  problems: string[];
}

interface Template {
  home: CrashHome;
  app: AppCredential;
  memory: Memory;
  people: Record<keyof typeof VETERANS, Person>;
}

/** Runs appliances to their deaths. */
export class CrashLab {
  readonly #templates: Map<Engine, Template>;
  readonly #deliveryKeys: DeviceKeys[];
  #next: ChildProcess;
  /** Milliseconds of load without a crash. */
  span = 3_000;
  /** False takes the guard away: what was cut in half stays so, and must be found. */
  reconciles = true;

  private constructor(templates: Map<Engine, Template>, deliveryKeys: DeviceKeys[]) {
    this.#templates = templates;
    this.#deliveryKeys = deliveryKeys;
    this.#next = spawnAppliance();
  }

  static async open(engines: readonly Engine[]): Promise<CrashLab> {
    const keys = await Promise.all(Array.from({ length: DELIVERY_KEYS }, () => newDeviceKeys()));
    const templates = new Map<Engine, Template>();
    for (const engine of engines) templates.set(engine, await makeTemplate(engine));
    return new CrashLab(templates, keys);
  }

  async close(): Promise<void> {
    this.#next.kill('SIGKILL');
    for (const { home } of this.#templates.values()) await home.remove();
  }

  /** How often each step is gone through, from the start to the end of the load. */
  async profile(): Promise<Map<string, number>> {
    const { home, site, appliance, mark, stories, problems } = await this.#begin('sqlite', undefined);
    try {
      const start = Date.now();
      await Promise.all(stories.map((story) => told(story, () => story.during(site), problems)));
      this.span = Date.now() - start;
      const ended = once(appliance.child, 'exit');
      appliance.child.kill('SIGTERM');
      await ended;
      if (problems.length > 0) throw new Error(`without any fault: ${problems.join('; ')}`);
      return new Map(Object.entries(JSON.parse(readFileSync(mark, 'utf8')) as Record<string, number>)); // crashing-serve.ts wrote it
    } finally {
      await home.remove();
    }
  }

  /** One life, one death, one resurrection. */
  async run(engine: Engine, plan: Plan): Promise<Outcome> {
    const { home, app, memory, site, appliance, mark, stories, problems } = await this.#begin(engine, plan);
    try {
      const loaded =
        site.door.port === 0 ? Promise.resolve() : Promise.all(stories.map((story) => told(story, () => story.during(site), problems)));
      await Promise.race([loaded, appliance.ended]);
      const fired = existsSync(mark);
      const acknowledged = memory.acknowledged;
      appliance.child.kill('SIGKILL');
      await appliance.ended;
      await loaded; // whoever was on the line hears of it at once
      const died = Date.now();
      if (!fired && site.door.port === 0) problems.push(`it did not start: ${appliance.said()}`);
      if (!fired) return { fired, acknowledged, readyAgain: 0, problems };
      problems.push(
        ...appliance
          .said()
          .split('\n')
          .filter((line) => line.startsWith('defect'))
          .map((line) => `in the first life: ${line}`),
      );
      searchSecrets(home, memory, problems, 'after the crash');
      const readyAgain = await this.#resurrect({ home, app, memory, stories, problems }, died);
      searchSecrets(home, memory, problems, 'at the end');
      return { fired, acknowledged, readyAgain, problems };
    } finally {
      appliance.child.kill('SIGKILL');
      await home.remove();
    }
  }

  async #resurrect(
    { home, app, memory, stories, problems }: { home: CrashHome; app: AppCredential; memory: Memory; stories: Story[]; problems: string[] },
    died: number,
  ): Promise<number> {
    const again = await home.start((error) => problems.push(`a defect in the second life: ${String(error)}`), {
      reconciles: this.reconciles,
    });
    try {
      const readyAgain = Date.now() - died;
      if (readyAgain > 30_000) problems.push(`serving again only after ${readyAgain} ms`);
      const site = { door: again.door(app), home: home.path };
      await Promise.all(stories.map((story) => told(story, () => story.after(site), problems)));
      const { storage, token, auditReader } = again.house;
      for (const { index, leaf } of memory.receipts) {
        const [entry] = await auditReader.stored(index, 1);
        if (entry?.idx !== index || entry.leaf.toString('base64url') !== leaf)
          problems.push(`the receipt for entry ${index} is not in the log`);
      }
      problems.push(...(await checkLog(storage)).problems.map((problem) => `log: ${problem}`));
      for (const { check, verdict, words } of await checkData(storage, token)) if (verdict !== 'good') problems.push(`${check}: ${words}`);
      for (const { kind, id } of await openIntents(storage)) problems.push(`intent ${kind} ${id} is still open`);
      return readyAgain;
    } finally {
      await again.close();
    }
  }

  async #begin(engine: Engine, plan: Plan | undefined) {
    const template = this.#templates.get(engine);
    if (!template) throw new Error(`no home for ${engine}`);
    const home = await template.home.copy();
    const memory = new Memory();
    const mark = join(home.folder, 'mark');
    const child = this.#next;
    this.#next = spawnAppliance();
    const appliance = watch(child);
    child.stdin?.write(`${JSON.stringify({ home: home.path, mark, plan })}\n`);
    const port = await Promise.race([appliance.ready, appliance.ended.then(() => 0)]);
    const site: Site = { door: home.door(port, template.app, () => child.exitCode !== null || child.signalCode !== null), home: home.path };
    return { home, app: template.app, memory, mark, appliance, site, stories: this.#stories(template, memory), problems: [] as string[] };
  }

  #stories({ people }: Template, memory: Memory): Story[] {
    // Identity keys cost nothing, so they are new; a delivery key is used once in a home.
    const bank = this.#deliveryKeys.map(({ delivery }): DeviceKeys => ({ delivery, identity: newIdentity() }));
    const spare = (): DeviceKeys => {
      const keys = bank.pop();
      if (!keys) throw new Error('more device keys are needed');
      return keys;
    };
    const [ada, bob, cyd, dan, eve] = [people.ada, people.bob, people.cyd, people.dan, people.eve].map((person) => person.for(memory)) as [
      Person,
      Person,
      Person,
      Person,
      Person,
    ]; // five from five
    return [
      new Enrolment(new Person('new.one@corp.example', memory), [spare()], spare),
      new Enrolment(new Person('new.two@corp.example', memory), [spare(), spare()], spare),
      new Enrolment(ada, [spare()], spare),
      new Retrieval(ada.for(memory), 3),
      new Revocation(bob),
      new Leave(cyd),
      new Replacement(dan),
      new Reassignment(eve, new Person(eve.address, memory), spare),
    ];
  }
}

async function makeTemplate(engine: Engine): Promise<Template> {
  const home = await CrashHome.make(engine);
  const memory = new Memory();
  const defects: unknown[] = [];
  const started = await home.start((error) => defects.push(error));
  const app = await started.issueApp();
  const site = { door: started.door(app), home: home.path };
  await started.fill();
  const entries = Object.entries(VETERANS).map(async ([name, count]) => {
    const person = new Person(`${name}@corp.example`, memory);
    for (let device = 0; device < count; device++) person.devices.push(await enrolDevice(site.door, person.address));
    // The first device only: the others' first delivery is still to come.
    await person.settled(site, person.devices.slice(0, 1));
    return [name, person] as const;
  });
  const people = Object.fromEntries(await Promise.all(entries)) as Template['people']; // one for each name
  await started.fill();
  await started.close();
  rmSync(home.mail, { recursive: true });
  if (defects.length > 0) throw new Error(`defects before any fault: ${defects.join('; ')}`);
  return { home, app, memory, people };
}

const spawnAppliance = (): ChildProcess => spawn(process.execPath, [ENTRY], { stdio: ['pipe', 'pipe', 'pipe'] });

function watch(child: ChildProcess) {
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const ended = child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : once(child, 'exit').then(() => undefined);
  const ready = (async () => {
    for (const until = Date.now() + 60_000; Date.now() < until; await sleep(5)) {
      const port = /^ready (\d+)/m.exec(said)?.[1];
      if (port) return Number(port);
    }
    return 0;
  })();
  return { child, ended, ready, said: () => said };
}

async function told(story: Story, act: () => Promise<void>, problems: string[]): Promise<void> {
  try {
    await act();
  } catch (error) {
    problems.push(`${story.title}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** No PIN, no half of a challenge and no private key may lie readable in the home. */
function searchSecrets(home: CrashHome, memory: Memory, problems: string[], when: string): void {
  const needles: [string, Buffer][] = [['the PIN', Buffer.from(readFileSync(join(home.path, 'pin'), 'utf8').trim())]];
  for (const half of memory.secrets.halves)
    needles.push(['half of a challenge', Buffer.from(half)], ['half of a challenge, as bytes', Buffer.from(half, 'base64url')]);
  for (const [id, key] of memory.secrets.keys) {
    const prime = Buffer.from(key.export({ format: 'jwk' }).p ?? '', 'base64url');
    // Whatever the alignment, the middle of a base64 text of it holds one of these.
    for (const shift of [0, 1, 2])
      needles.push([`a prime of key ${id}, in base64`, Buffer.from(prime.subarray(shift, shift + 48).toString('base64'))]);
    needles.push([`a prime of key ${id}`, prime], [`a prime of key ${id}, in hexadecimal`, Buffer.from(prime.toString('hex'))]);
  }
  for (const { name, bytes } of home.files())
    for (const [what, needle] of needles)
      if (needle.length > 0 && bytes.includes(needle)) problems.push(`${when}: ${what} lies readable in ${name}`);
}
