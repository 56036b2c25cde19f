import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TokenConnection } from '../../src/tokens/process/connection.js';
import { decodeBody, encodeBody, encodeFrame, FRAME_LIMIT, FrameReader } from '../../src/tokens/process/frames.js';
import { socketName } from '../../src/tokens/process/socket-path.js';
import { seen } from '../../src/tokens/process/token-faults.js';
import { Workman } from '../../src/tokens/process/workman.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ekms-parts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('frames', () => {
  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.string(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.uint8Array().map((bytes) => Buffer.from(bytes)),
      fc.array(tie('value')),
      fc.dictionary(
        fc.string().filter((name) => name !== '$b'),
        tie('value'),
      ),
    ),
  })).value;

  test('whatever goes in comes out, in whatever pieces it travels', () => {
    fc.assert(
      fc.property(fc.array(value, { maxLength: 4 }), fc.integer({ min: 1, max: 40 }), (values, piece) => {
        const bytes = Buffer.concat(values.map((each, id) => encodeFrame({ id }, encodeBody(each))));
        const reader = new FrameReader();
        const frames = [];
        for (let at = 0; at < bytes.length; at += piece) frames.push(...reader.push(bytes.subarray(at, at + piece)));
        expect(frames.map((frame) => JSON.parse(frame.head))).toEqual(values.map((_, id) => ({ id })));
        expect(frames.map((frame) => decodeBody(frame.body))).toEqual(values);
      }),
      { numRuns: 200 },
    );
  });

  test('random bytes are frames or an error, never anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          for (const { body } of new FrameReader().push(Buffer.from(bytes))) decodeBody(body);
        } catch (error) {
          expect(error instanceof RangeError || error instanceof SyntaxError).toBe(true);
        }
      }),
    );
  });

  test('refuses a length above the limit at once, before anything is kept for it', () => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(FRAME_LIMIT + 1);
    expect(() => new FrameReader().push(length)).toThrow(RangeError);
    expect(() => encodeFrame({ id: 1 }, 'x'.repeat(FRAME_LIMIT))).toThrow(RangeError);
  });

  test('makes nothing but plain values of what the peer wrote', () => {
    const decoded = decodeBody('{"__proto__":{"polluted":true},"constructor":1}') as object;
    expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    for (const bad of ['{"$b":1}', '{"$b":"@"}', '{"$b":"QQ"}', '{"$b":"QR=="}']) expect(() => decodeBody(bad)).toThrow(RangeError);
  });

  test('a defect crosses without its message', () => {
    const quiet = process.stderr.write;
    let log = '';
    process.stderr.write = ((text: string) => (log += text)) as unknown as typeof quiet;
    try {
      expect(JSON.stringify(seen(new TypeError('the PIN is 1234')))).not.toContain('1234');
    } finally {
      process.stderr.write = quiet;
    }
    expect(log).toContain('TypeError');
    expect(log).not.toContain('1234');
  });
});

describe('a connection', () => {
  let server: Server;
  const serve = (path: string, answer: Buffer) =>
    new Promise<void>((ready) => {
      server = createServer((socket) => {
        socket.on('error', () => undefined).on('data', () => socket.write(answer));
      }).listen(path, ready);
    });
  afterEach(() => {
    server.close();
  });

  test('that hears garbage ends, and every call on it fails at once', async () => {
    const path = join(folder, 's');
    await serve(path, encodeFrame({ id: 0, fault: { kind: 'none', code: 'x', message: '' } }, 'null'));
    const connection = await TokenConnection.open(path);
    const calls = await Promise.allSettled([connection.call('health', {}, 5000), connection.call('health', {}, 5000)]);
    for (const call of calls) expect(call).toMatchObject({ status: 'rejected', reason: { code: 'token-unavailable', retryAfter: 1 } });
    await connection.closed;
  });

  test('that hears nothing gives up in time', async () => {
    const path = join(folder, 's');
    await serve(path, Buffer.alloc(0));
    const connection = await TokenConnection.open(path);
    await expect(connection.call('health', {}, 50)).rejects.toMatchObject({ code: 'token-unavailable' });
    connection.close();
  });

  test('reaches a socket however deep it lies', async () => {
    const deep = join(folder, 'a'.repeat(100), 'b'.repeat(100));
    mkdirSync(deep, { recursive: true });
    const path = join(deep, 'token.sock');
    const { name, release } = socketName(path);
    await serve(name, encodeFrame({ id: 0 }, '"here"'));
    release();
    const connection = await TokenConnection.open(path);
    expect(await connection.call('health', {}, 5000)).toBe('here');
    connection.close();
  });
});

describe('a worker thread', () => {
  const hire = (code: string) => {
    const entry = join(folder, 'worker.mjs');
    writeFileSync(entry, `import { parentPort } from 'node:worker_threads';\n${code}`);
    let defect = (_: string) => {};
    const told = new Promise<string>((resolve) => {
      defect = resolve;
    });
    return { workman: new Workman(entry, {}, defect), told };
  };

  test('that does not come back from the module is told of', async () => {
    const { workman, told } = hire(
      `parentPort.on('message', () => { for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); });`,
    );
    void workman.ask({ do: 'probe' }, 200);
    expect(await told).toBe('the token module has not come back from probe for 0.2 s');
    await workman.end();
  });

  test('that dies is told of', async () => {
    const { workman, told } = hire(`parentPort.on('message', () => { throw new TypeError('the PIN is 1234'); });`);
    void workman.ask({ do: 'probe' }, 60_000);
    expect(await told).toBe('a worker thread died: TypeError');
    await workman.end();
  });
});
