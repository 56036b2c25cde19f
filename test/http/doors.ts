import { ROUTE_CLASSES, type RouteClass } from '../../src/access/index.js';
import { freePorts } from '../../src/demo/programs.js';
import { HouseInProcess, type HouseOptions } from '../support/house-in-process.js';
import { send, type WireReply } from '../support/wire.js';
import { asDevice, postSigned, type WireDevice } from '../support/wire-device.js';
import type { ContractCheck } from './contract-check.js';

export type Listener = RouteClass;
export const LISTENERS: readonly Listener[] = ROUTE_CLASSES;

export interface Ask {
  method?: string;
  path: string;
  body?: Buffer | string;
  headers?: Record<string, string>;
}

/** An appliance in this process with all its listeners, each of whose answers is held against the contract. */
export class Doors {
  private constructor(
    readonly house: HouseInProcess,
    readonly ports: Record<Listener, number>,
    private readonly check: ContractCheck,
  ) {}

  static async open(check: ContractCheck, { settings = {}, ...options }: HouseOptions = {}): Promise<Doors> {
    const free = await freePorts(LISTENERS.length);
    const ports = Object.fromEntries(LISTENERS.map((name, at) => [name, free[at]])) as Record<Listener, number>; // as many as names
    const listen = Object.fromEntries(LISTENERS.map((name) => [name, `127.0.0.1:${ports[name]}`]));
    const house = await HouseInProcess.open({ settings: { listen, ...settings }, ...options });
    return new Doors(house, ports, check);
  }

  /** As anybody, at any listener; nothing is checked. */
  async ask(listener: Listener, { method = 'GET', path, body, headers = {} }: Ask): Promise<WireReply> {
    if (listener !== 'public' && listener !== 'operation')
      return send({ port: this.ports[listener], root: this.house.root, method, path, body, headers });
    const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
    const answer = await fetch(`http://127.0.0.1:${this.ports[listener]}${path}`, {
      method,
      headers: { ...type, ...headers },
      ...(body === undefined ? {} : { body: String(body) }),
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    return { status: answer.status, headers: [...answer.headers], body: bytes, json: parse(bytes) };
  }

  async anybody(listener: Listener, ask: Ask): Promise<WireReply> {
    return this.promised(ask.method ?? 'GET', ask.path, await this.ask(listener, ask));
  }

  async device(device: WireDevice, method: string, path: string, value?: object): Promise<WireReply> {
    return this.promised(method, path, await asDevice(this.house, device, method, path, value));
  }

  async app(path: string, value: object | Buffer, fields?: Record<string, string>): Promise<WireReply> {
    return this.promised('POST', path, await postSigned(this.house, path, value, fields));
  }

  /** Throws when an answer is not as the document promises. */
  promised(method: string, path: string, reply: WireReply): WireReply {
    const faults = this.check.faults({ method, path, status: reply.status, header: (name) => headerOf(reply, name), body: reply.body });
    if (faults.length > 0)
      throw new Error(`${method} ${path} ${reply.status}: ${faults.join('; ')}\n${reply.body.toString('utf8').slice(0, 500)}`);
    return reply;
  }

  close(): Promise<void> {
    return this.house.close();
  }
}

export const headerOf = ({ headers }: WireReply, name: string): string | undefined =>
  headers.find(([one]) => one.toLowerCase() === name)?.[1];

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
