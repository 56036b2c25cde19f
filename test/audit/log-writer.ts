// A node that writes to the log with 64 writers until it is killed: the real writer, log and checkpoints over a real database and a real token process.
// It loads everything first and then waits for two lines of JSON on stdin: what to open, `{url, home, socket}`, and then to write, `{node, torn}`. Each act that
// it was told is durable is a line on stdout.
import 'reflect-metadata';
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { Checkpoints } from '../../src/audit/checkpoints.js';
import { DurableAuditLog } from '../../src/audit/durable-audit-log.js';
import { LogTree } from '../../src/audit/log-tree.js';
import { LogStanding } from '../../src/audit/standing.js';
import { TileReader } from '../../src/audit/tile-reader.js';
import { isFault, SystemClock, type Unit } from '../../src/foundation/index.js';
import { openStorage } from '../../src/storage/index.js';
import { TokenProcess } from '../../src/tokens/token-client.js';

export interface Place {
  url: string;
  home: string;
  socket: string;
}
export interface Task {
  /** Begins the names of its acts. */
  node: string;
  /** Act and entry are written in two units of work. */
  torn: boolean;
}

const WRITERS = 64;
/** The pipe is full while the one who reads it is busy. */
function say(line: string): void {
  for (let at = 0, bytes = Buffer.from(`${line}\n`); at < bytes.length; )
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
}

say('loaded');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => JSON.parse(String((await lines.next()).value)) as unknown; // kill-lab.ts wrote it
const { url, home, socket } = (await next()) as Place;

const clock = new SystemClock();
const storage = await openStorage({ url, home });
const token = new TokenProcess({ socket });
await token.start();
const standing = new LogStanding();
const log = new DurableAuditLog(clock, standing);
const tree = new LogTree(storage);
const checkpoints = new Checkpoints({ tree, tiles: new TileReader(storage), token, standing, clock, origin: 'kills.example/v1/audit' });

say('open');
const { node, torn } = (await next()) as Task;

/** An act and its entry, in one unit of work (unless that guard is off): the row of the act is there exactly when the entry is. */
async function write(writer: number): Promise<never> {
  for (let n = 0; ; n += 1) {
    const act = `${node}-${writer}-${n}`;
    try {
      const does = async (unit: Unit) => void (await unit.run("INSERT INTO settings (name, value) VALUES (?, '')", [`act ${act}`]));
      if (torn) {
        await storage.write(does);
        await pause(30);
      }
      const { index, leaf } = await storage.write(async (unit) => {
        if (!torn) await does(unit);
        return log.append(unit, { action: 'certificate.find', outcome: 'done', actor: { kind: 'system' }, subject: act });
      });
      say(`${act} ${index} ${leaf}`);
    } catch (error) {
      if (!isFault(error) || error.kind !== 'unavailable') throw error;
    }
  }
}

async function sign(): Promise<never> {
  for (;;) {
    await checkpoints.publish().catch((error: unknown) => {
      if (!isFault(error)) throw error;
    });
    if (standing.breach) say(`breach ${standing.breach.code}`);
    await pause(2);
  }
}

say('writes');
await Promise.all([sign(), ...Array.from({ length: WRITERS }, (_, writer) => write(writer))]);
