import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Appliance } from '../support/appliance.js';
import { openKey } from '../support/open-delivery.js';
import { searchFiles, searchMemory, spellings } from '../support/secret-search.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(60_000);

describe('after a key was delivered again and again', () => {
  let ekms: Appliance;
  /** The factors and the private exponent of the delivered key, as its owner's device has them. */
  let secrets: Record<string, Map<string, Buffer>>;
  const lines: TLSSocket[] = [];

  beforeAll(async () => {
    ekms = await Appliance.open();
    const device = await enrolDevice(ekms, 'alice@corp.example');
    let delivery: string | null = null;
    for (let round = 0; round < 20; round++) {
      // Half of them anew by the token, half as kept.
      if (round % 2 === 0) await ekms.db.write((unit) => unit.run('DELETE FROM deliveries'));
      const [key] = await keysOf(ekms, device);
      delivery = key?.delivery ?? null;
    }
    const { p = '', q = '', d = '' } = openKey(delivery, device.keys.delivery).export({ format: 'jwk' });
    secrets = Object.fromEntries(Object.entries({ p, q, d }).map(([name, text]) => [name, spellings(Buffer.from(text, 'base64url'))]));
  });
  afterAll(async () => {
    for (const line of lines) line.destroy();
    await ekms?.close();
  });

  test.each(['p', 'q', 'd'])('%s of it is nowhere in the memory of the API process', (name) => {
    const { hits, searched } = searchMemory(ekms.pid, secrets[name] ?? new Map());
    expect(hits).toEqual([]);
    expect(searched).toBeGreaterThan(50 << 20);
  });

  test.each(['p', 'q', 'd'])('%s of it is in no file of the home and in no word that was logged', (name) => {
    const needles = secrets[name] ?? new Map<string, Buffer>();
    const { hits, searched } = searchFiles(ekms.path, needles);
    expect(hits).toEqual([]);
    expect(searched).toBeGreaterThan(10);
    for (const needle of needles.values()) expect(Buffer.from(ekms.said).includes(needle)).toBe(false);
  });

  test('the PIN is not in the memory of the API process', () => {
    const pin = readFileSync(ekms.file('pin'), 'utf8').trim();
    expect(searchMemory(ekms.pid, new Map([['PIN', Buffer.from(pin)]])).hits).toEqual([]);
  });

  // Last, since from here on it is there.
  test.each(['bytes', 'limbs', 'hex', 'base64 from 0', 'base64url from 1'])('the search works: it finds planted %s', async (spelling) => {
    const planted = secrets['p']?.get(spelling) ?? Buffer.of();
    expect(planted.length).toBeGreaterThan(100);
    // A body that never ends: what came of it lies in the API process for as long as the line is open.
    const line = connect({ host: 'localhost', port: ekms.port, ca: ekms.root, servername: 'localhost' });
    lines.push(line);
    await once(line, 'secureConnect');
    line.write(`POST /v1/enrolments HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n`);
    line.write(planted);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { hits } = searchMemory(ekms.pid, new Map([[spelling, planted]]));
    expect(hits.length).toBeGreaterThan(0);
    mkdirSync(ekms.beside('planted'), { recursive: true });
    writeFileSync(join(ekms.beside('planted'), 'file'), Buffer.concat([Buffer.alloc(1000), planted, Buffer.alloc(10)]));
    expect(searchFiles(ekms.beside('planted'), new Map([[spelling, planted]])).hits).toHaveLength(1);
  });
});
