import { type Route, Surroundings } from '../../src/access/surroundings.js';

/** A machine on an isolated network, unless a test says otherwise. */
export class Isolated extends Surroundings {
  ways: Route[] = [{ block: '10.1.0.0/24', device: 'eth0' }];
  own = [
    { address: '127.0.0.1', device: 'lo' },
    { address: '10.1.0.5', device: 'eth0' },
    { address: 'fe80::1%eth0', device: 'eth0' },
  ];
  answering = new Set<string>();
  failure: Error | undefined;

  override async routes(): Promise<Route[]> {
    if (this.failure) throw this.failure;
    return this.ways;
  }
  override addresses(): { address: string; device: string }[] {
    return this.own;
  }
  override async reaches(endpoint: string): Promise<boolean> {
    return this.answering.has(endpoint);
  }
  override async resolves(name: string): Promise<boolean> {
    return this.answering.has(name);
  }
}
