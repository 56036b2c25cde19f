import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Runs a program to its end. Throws with what it said: one that ended before it read its input says more than our broken pipe does. */
function must(program: string, args: string[], input = ''): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', input });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')}: ${stderr || error?.message || `status ${status}`}`);
}

/** Whether this machine lets us make network namespaces. */
export function mayMakeNamespaces(): boolean {
  const name = `ekms-may-${process.pid}`;
  try {
    must('ip', ['netns', 'add', name]);
    must('ip', ['netns', 'exec', name, 'nft', 'list', 'ruleset']);
    return true;
  } catch (error) {
    process.stderr.write(
      `\n*** no network namespaces here: tests of the networks are SKIPPED (${(error as Error).message.split('\n', 1)[0]}) ***\n`,
    );
    return false;
  } finally {
    try {
      must('ip', ['netns', 'del', name]);
    } catch {
      // It was never made.
    }
  }
}

export interface Probe {
  from?: string;
  host: string;
  port: number;
  tls: boolean;
  /** Hexadecimal bytes to send before anything else. */
  header?: string;
}

/** A network namespace of this test's own. */
export class Namespace {
  readonly name: string;

  constructor(what: string) {
    this.name = `ekms-${what}-${process.pid}`;
    must('ip', ['netns', 'add', this.name]);
    this.ip('link set lo up');
    this.run('sysctl', ['-qw', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0', 'net.ipv6.conf.default.accept_dad=0']);
  }

  /** A cable to another: `here` and `there` are the addresses of its two ends, with their lengths. */
  cable(other: Namespace, here: string[], there: string[]): void {
    const ends = [this, other].map(({ name }) => `v${name.slice(5, 8)}${Math.random().toString(36).slice(2, 8)}`) as [string, string];
    must('ip', ['link', 'add', ends[0], 'netns', this.name, 'type', 'veth', 'peer', 'name', ends[1], 'netns', other.name]);
    for (const [namespace, end, addresses] of [
      [this, ends[0], here],
      [other, ends[1], there],
    ] as const) {
      for (const address of addresses) namespace.ip(`addr add ${address} dev ${end}${address.includes(':') ? ' nodad' : ''}`);
      namespace.ip(`link set ${end} up`);
    }
  }

  ip(line: string): string {
    return must('ip', ['-n', this.name, ...line.split(' ')]);
  }

  run(program: string, args: string[], input?: string): string {
    return must('ip', ['netns', 'exec', this.name, program, ...args], input);
  }

  spawn(program: string, args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    return spawn('ip', ['netns', 'exec', this.name, program, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** All at once; `open` or `refused` for each. */
  probe(cases: Probe[], patience = 600): string[] {
    return JSON.parse(this.run(process.execPath, [join(__dirname, 'probe.mjs'), String(patience)], JSON.stringify(cases))) as string[]; // probe.mjs prints it
  }

  resolver(address: string): void {
    mkdirSync(`/etc/netns/${this.name}`, { recursive: true });
    writeFileSync(`/etc/netns/${this.name}/resolv.conf`, `nameserver ${address}\n`);
  }

  remove(): void {
    must('ip', ['netns', 'del', this.name]);
    rmSync(`/etc/netns/${this.name}`, { recursive: true, force: true });
  }
}
