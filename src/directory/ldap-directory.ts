import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  AndFilter,
  Client,
  type Entry,
  EqualityFilter,
  type Filter,
  FilterParser,
  InvalidCredentialsError,
  OrFilter,
  ResultCodeError,
} from 'ldapts';
import { type Address, Fault } from '../foundation/index.js';
import { Directory, type DirectoryEntry } from './directory.js';

export interface LdapSettings {
  /** ldap://… or ldaps://… */
  url: string;
  /** On ldap://: whether the connection becomes TLS before anything is said. */
  startTls: boolean;
  /** PEM file of the only authorities that the directory's certificate may end in; without it, the system's. */
  caFile?: string;
  bindDn: string;
  passwordFile: string;
  base: string;
  /** RFC 4515: who counts as a person. */
  filter: string;
  attributes: {
    id: string;
    addresses: readonly string[];
    created: string;
    /** Without one, whoever the filter finds is active. */
    state?: { attribute: string } & ({ disabledBit: number } | { active: readonly string[] });
  };
}

/** Milliseconds: to connect, and for one answer. */
const CONNECT = 5_000;
const ANSWER = 30_000;
/** Entries per page (RFC 2696); Active Directory gives at most 1,000. */
const PAGE = 500;

/** LDAP version 3, Active Directory among them. One connection per question: the directory may be restarted at any time. */
export class LdapDirectory extends Directory {
  readonly #people: Filter;

  /** Rejects with `configuration-invalid` where the filter is none. */
  constructor(private readonly settings: LdapSettings) {
    super();
    try {
      this.#people = FilterParser.parseString(settings.filter);
    } catch (error) {
      throw new Fault('misconfigured', 'configuration-invalid', `directory.filter: ${(error as Error).message}`);
    }
  }

  override people(): Promise<DirectoryEntry[]> {
    return this.#asking((client) => this.#search(client, this.#people));
  }

  override async byId(id: string): Promise<DirectoryEntry | undefined> {
    const { id: attribute } = this.settings.attributes;
    const value = isGuid(attribute) ? guidBytes(id) : id;
    return (await this.#asking((client) => this.#search(client, this.#also(new EqualityFilter({ attribute, value })))))[0];
  }

  override byAddress(address: Address): Promise<DirectoryEntry[]> {
    return this.#asking((client) => this.#search(client, this.#withAddress(address)));
  }

  override async signIn(address: Address, password: string, mayTry = (_id: string) => true): Promise<DirectoryEntry | undefined> {
    // RFC 4513 §5.1.2: a bind without a password succeeds and says nothing of whoever binds.
    if (password === '') return undefined;
    return this.#asking(async (client) => {
      const found: { dn: string; person: DirectoryEntry }[] = [];
      for await (const entry of this.#entries(client, this.#withAddress(address))) {
        const person = this.#person(entry);
        if (person?.active) found.push({ dn: entry.dn, person });
      }
      const [one] = found.length === 1 ? found : [];
      const only = one && mayTry(one.person.id) ? one : undefined;
      // Nobody's password is tried as well, so that both take a bind's time.
      const isRight = await this.#binds(only?.dn ?? `cn=${randomUUID()},${this.settings.base}`, password);
      return isRight ? only?.person : undefined;
    });
  }

  async #binds(dn: string, password: string): Promise<boolean> {
    return this.#connected(async (client) => {
      try {
        await client.bind(dn, password);
        return true;
      } catch (error) {
        if (error instanceof InvalidCredentialsError) return false;
        // A DN that there is not, a locked account, a password that must be changed: the directory's word is no, for whichever reason.
        if (error instanceof ResultCodeError) return false;
        throw error;
      }
    });
  }

  #also(filter: Filter): Filter {
    return new AndFilter({ filters: [this.#people, filter] });
  }

  /** The address travels as a value, never as filter text: nothing in it is a wildcard. */
  #withAddress({ key }: Address): Filter {
    const filters = this.settings.attributes.addresses.map(
      (attribute) => new EqualityFilter({ attribute, value: isProxy(attribute) ? `smtp:${key}` : key }),
    );
    return this.#also(new OrFilter({ filters }));
  }

  async #search(client: Client, filter: Filter): Promise<DirectoryEntry[]> {
    const people: DirectoryEntry[] = [];
    for await (const entry of this.#entries(client, filter)) {
      const person = this.#person(entry);
      if (person) people.push(person);
    }
    return people;
  }

  async *#entries(client: Client, filter: Filter): AsyncGenerator<Entry> {
    const { id, addresses, created, state } = this.settings.attributes;
    const options = {
      filter,
      attributes: [id, ...addresses, created, ...(state ? [state.attribute] : [])],
      ...(isGuid(id) ? { explicitBufferAttributes: [id] } : {}),
      paged: { pageSize: PAGE },
    };
    for await (const { searchEntries } of client.searchPaginated(this.settings.base, options)) yield* searchEntries;
  }

  /** Undefined for an entry without an id: nothing could be said of it that lasts. */
  #person(entry: Entry): DirectoryEntry | undefined {
    const { id: idName, addresses, created: createdName, state } = this.settings.attributes;
    const [raw] = valuesOf(entry, idName);
    if (raw === undefined || raw.length === 0) return undefined;
    const created = generalizedTime(String(valuesOf(entry, createdName)[0] ?? ''));
    return {
      id: isGuid(idName) && Buffer.isBuffer(raw) ? guidText(raw) : String(raw).toLowerCase(),
      addresses: addresses.flatMap((name) => mailAddresses(name, valuesOf(entry, name).map(String))),
      active: !state || isActive(state, String(valuesOf(entry, state.attribute)[0] ?? '')),
      ...(created === undefined ? {} : { created }),
    };
  }

  #asking<T>(ask: (client: Client) => Promise<T>): Promise<T> {
    return this.#connected(async (client) => {
      try {
        await client.bind(this.settings.bindDn, firstLine(this.settings.passwordFile));
      } catch (error) {
        if (error instanceof ResultCodeError)
          throw new Fault('misconfigured', 'directory-refused', `the directory does not let ${this.settings.bindDn} in: ${error.name}`);
        throw error;
      }
      return ask(client);
    });
  }

  async #connected<T>(use: (client: Client) => Promise<T>): Promise<T> {
    const { url, startTls, caFile } = this.settings;
    const { protocol, hostname } = new URL(url);
    const tls = {
      minVersion: 'TLSv1.2',
      host: hostname,
      servername: hostname,
      ...(caFile ? { ca: fileOf(caFile) } : {}),
    } as const;
    const client = new Client({ url, timeout: ANSWER, connectTimeout: CONNECT, ...(protocol === 'ldaps:' ? { tlsOptions: tls } : {}) });
    try {
      if (startTls && protocol === 'ldap:') await client.startTLS(tls);
      return await use(client);
    } catch (error) {
      if (error instanceof Fault) throw error;
      // Of the library's words only the class and a server's code are passed on: messages can hold what was sent.
      const { name, code = '' } = error as Error & { code?: string | number };
      throw new Fault(
        'unavailable',
        'directory-unavailable',
        `the directory at ${hostname} gave no whole answer (${name} ${code})`.trim(),
        60,
      );
    } finally {
      await client.unbind().catch(() => {});
    }
  }
}

function valuesOf(entry: Entry, attribute: string): (string | Buffer)[] {
  // Attribute names are compared without case (RFC 4512 §2.5), and servers write them as their schema does.
  const name = Object.keys(entry).find((key) => key.toLowerCase() === attribute.toLowerCase());
  const value = name === undefined ? [] : (entry[name] ?? []);
  return Array.isArray(value) ? value : [value];
}

const isGuid = (attribute: string): boolean => attribute.toLowerCase() === 'objectguid';
const isProxy = (attribute: string): boolean => attribute.toLowerCase() === 'proxyaddresses';

/** Exchange's proxyAddresses name a protocol: `SMTP:` is the main address, `smtp:` a further one; others are no mail addresses. */
function mailAddresses(attribute: string, values: string[]): string[] {
  if (!isProxy(attribute)) return values;
  const mail = values.filter((value) => /^smtp:/i.test(value));
  return [...mail.filter((value) => value.startsWith('SMTP:')), ...mail.filter((value) => !value.startsWith('SMTP:'))].map((value) =>
    value.slice(5),
  );
}

function isActive(state: NonNullable<LdapSettings['attributes']['state']>, value: string): boolean {
  if ('active' in state) return state.active.some((one) => one.toLowerCase() === value.toLowerCase());
  // MS-ADTS 2.2.16: userAccountControl is a sum of bits. What is no number tells nothing, so nobody is active by it.
  return /^-?\d+$/.test(value) && (Number(value) & state.disabledBit) === 0;
}

/** MS-DTYP 2.3.4: the first three parts are little-endian. */
function guidText(bytes: Buffer): string {
  const hex = Buffer.concat([
    Buffer.from(bytes.subarray(0, 4)).reverse(),
    Buffer.from(bytes.subarray(4, 6)).reverse(),
    Buffer.from(bytes.subarray(6, 8)).reverse(),
    bytes.subarray(8),
  ]).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

function guidBytes(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex');
  return Buffer.concat([bytes.subarray(0, 4).reverse(), bytes.subarray(4, 6).reverse(), bytes.subarray(6, 8).reverse(), bytes.subarray(8)]);
}

/** RFC 4517 §3.3.13, in UTC as directories write it; undefined for anything else. */
function generalizedTime(text: string): number | undefined {
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:[.,]\d+)?Z$/.exec(text) ?? [];
  const [year, month, day, hour, minute, second] = parts.map(Number);
  return year === undefined ? undefined : Date.UTC(year, (month ?? 1) - 1, day, hour, minute, second);
}

const firstLine = (file: string): string => fileOf(file).split(/\r?\n/, 1)[0] ?? '';

function fileOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw new Fault('misconfigured', 'directory-refused', `${path}, which directory names, cannot be read`);
  }
}
