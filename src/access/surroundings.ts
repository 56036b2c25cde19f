import { Resolver } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';

/** A block of addresses that this machine has a way to. */
export interface Route {
  block: string;
  device: string;
}

/** What this machine can reach and be reached by. */
export abstract class Surroundings {
  /** Rejects when it cannot be told. */
  abstract routes(): Promise<Route[]>;
  abstract addresses(): { address: string; device: string }[];
  /** @param endpoint HOST:PORT; true when it takes a connection */
  abstract reaches(endpoint: string): Promise<boolean>;
  /** True when a resolver of this machine knows an address for the name. */
  abstract resolves(name: string): Promise<boolean>;
}

/** Milliseconds for a place outside to answer; whoever is nearer needs less. */
const PATIENCE = 2_000;

/** Linux's flags of a route (include/uapi/linux/route.h, ipv6_route.h): it refuses, it is an address of our own. */
const REJECT = 0x200;
const LOCAL = 0x80000000;
const ANYCAST = 0x00100000;

/** This machine, as Linux tells it. */
export class ThisMachine extends Surroundings {
  override async routes(): Promise<Route[]> {
    const [four, six] = await Promise.all([readFile('/proc/net/route', 'utf8'), readFile('/proc/net/ipv6_route', 'utf8').catch(() => '')]);
    return [...readRoutes4(four), ...readRoutes6(six)].filter(({ device }) => device !== 'lo');
  }

  override addresses(): { address: string; device: string }[] {
    return Object.entries(networkInterfaces()).flatMap(([device, all]) => (all ?? []).map(({ address }) => ({ address, device })));
  }

  override reaches(endpoint: string): Promise<boolean> {
    const [, six, host, port] = /^(?:\[(.+)\]|(.+)):(\d+)$/.exec(endpoint) ?? [];
    return new Promise((resolve) => {
      const socket = connect({ host: six ?? host ?? '', port: Number(port), timeout: PATIENCE });
      const end = (answers: boolean) => {
        socket.destroy();
        resolve(answers);
      };
      socket.once('connect', () => end(true)).once('timeout', () => end(false));
      socket.once('error', () => end(false));
    });
  }

  override async resolves(name: string): Promise<boolean> {
    const resolver = new Resolver({ timeout: PATIENCE, tries: 1 });
    const found = await Promise.all([resolver.resolve4(name), resolver.resolve6(name)].map((asked) => asked.catch(() => [])));
    return found.some((addresses) => addresses.length > 0);
  }
}

/** /proc/net/route: hexadecimal in the machine's own order of bytes. */
export function readRoutes4(text: string): Route[] {
  return text
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 7 && (Number.parseInt(fields[3] ?? '', 16) & REJECT) === 0)
    .map(([device = '', destination = '', , , , , , mask = '']) => ({
      block: `${Buffer.from(destination, 'hex').reverse().join('.')}/${bitsOf(mask)}`,
      device,
    }));
}

/** /proc/net/ipv6_route: all tables, with addresses of our own and what is refused. */
export function readRoutes6(text: string): Route[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length > 9 && (Number.parseInt(fields[8] ?? '', 16) & (REJECT | LOCAL | ANYCAST)) === 0)
    .map(([destination = '', length = '', ...rest]) => ({
      block: `${(destination.match(/.{4}/g) ?? []).join(':')}/${Number.parseInt(length, 16)}`,
      device: rest.at(7) ?? '',
    }));
}

const bitsOf = (hex: string): number => Number.parseInt(hex, 16).toString(2).replaceAll('0', '').length;
