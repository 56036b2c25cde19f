import type { ActName } from '../../src/commands/acts.js';
import { type RawAnswer, raw } from './browser.js';
import { SoftPasskey } from './soft-passkey.js';

/** An appliance that administrators reach, in this process or in its own. */
export interface AdministrationSite {
  /** PEM */
  readonly root: string;
  /** Origin of the administration listener. */
  readonly administration: string;
  act(name: ActName, args: object): Promise<unknown>;
}

/** An administrator with a passkey in software, who speaks to the real administration listener. */
export class TestAdministrator {
  id = '';
  cookie = '';
  passkey: SoftPasskey;
  /** Sees every answer. */
  onAnswer: (method: string, path: string, answer: RawAnswer) => void = () => undefined;

  private constructor(private readonly site: AdministrationSite) {
    this.passkey = new SoftPasskey(new URL(this.#base).hostname, this.#base);
  }

  /** Comes in by an invitation; during bootstrap with the role. */
  static async register(
    site: AdministrationSite,
    name: string,
    role?: string,
    link?: string,
    onAnswer?: TestAdministrator['onAnswer'],
  ): Promise<TestAdministrator> {
    const who = { name, address: `${name}@corp.example` };
    const made = link ?? ((await site.act('admin.invite', role ? { role } : {})) as { link: string }).link;
    const token = made.split('#')[1];
    const person = new TestAdministrator(site);
    if (onAnswer) person.onAnswer = onAnswer;
    const options = await person.ask('POST', 'invitations/options', { token, ...who });
    const response = person.passkey.create(options.json);
    const answer = await person.ask('POST', 'invitations', { token, ...who, passkey: 'soft', response });
    if (answer.status !== 201) throw new Error(`${name} was not registered: ${JSON.stringify(answer.json)}`);
    person.id = (answer.json as { id: string }).id;
    person.cookie = answer.setCookie[0]?.split(';')[0] ?? '';
    return person;
  }

  async ask(method: string, path: string, body?: unknown): Promise<RawAnswer> {
    const headers = { origin: this.#base, 'sec-fetch-site': 'same-origin', ...(this.cookie ? { cookie: this.cookie } : {}) };
    const answer = await raw(`${this.#base}/v1/admin/${path}`, this.site.root, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
    });
    this.onAnswer(method, `/v1/admin/${path}`, answer);
    return answer;
  }

  async signIn(): Promise<void> {
    const options = await this.ask('POST', 'sign-in/options');
    const answer = await this.ask('POST', 'sign-in', { response: this.passkey.get(options.json) });
    if (answer.status !== 200) throw new Error(`no sign-in: ${JSON.stringify(answer.json)}`);
    this.cookie = answer.setCookie[0]?.split(';')[0] ?? '';
  }

  /** A passkey that this person does not have yet. */
  anotherPasskey(): SoftPasskey {
    return new SoftPasskey(new URL(this.#base).hostname, this.#base);
  }

  act(name: string, args: object): Promise<RawAnswer> {
    return this.ask('POST', `acts/${name}`, { args });
  }

  /** Signs a request's hash with the passkey; refused, the answer of whichever step refused. */
  async approve(id: string): Promise<RawAnswer> {
    const options = await this.ask('POST', `requests/${id}/approvals/options`);
    if (options.status !== 200) return options;
    return this.ask('POST', `requests/${id}/approvals`, { response: this.passkey.get(options.json) });
  }

  get #base(): string {
    return this.site.administration;
  }
}
