import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { Fault, isFault } from '../../foundation/index.js';
import { HsmError } from '../hsm.js';
import { EXIT } from './child.js';
import { initialise, parseInitSettings } from './init.js';
import { changePin } from './pin.js';
import { reissue } from './reissue.js';
import { restore } from './restore.js';
import { serveTokenProcess } from './serve.js';
import { parseTokenSettings } from './settings.js';
import { readTokenFile } from './settings-file.js';
import { seen } from './token-faults.js';

/** Milliseconds in which it must have ended in order. */
const GRACE_MS = 10_000;

/**
 * `main.js serve`, `init`, `restore`, `reissue` and `pin`: settings as JSON on the first line of stdin; a process started that way ends when its stdin does, so it
 * never outlives who started it. `main.js serve FILE` and `main.js init FILE [PINFILE [SHARES]]`: a process of its own user, with its token.yaml; init then
 * reads from stdin what the authorities are to be called. Prints one line, `ready` or `failed {"kind", "code", "message"}`.
 */
const [command, file, pinFile, shares] = process.argv.slice(2);
const root = fileURLToPath(new URL('../../../..', import.meta.url));
try {
  if (command === 'restore') {
    const opened = await restore(parse(await firstLine()));
    process.stdout.write(`ready ${JSON.stringify(opened)}\n`, () => process.exit(0));
  } else if (command === 'pin') {
    changePin(file ? { token: readTokenFile(file, root).settings, newPinFile: resolve(pinFile ?? '') } : parse(await firstLine()));
    process.stdout.write('ready\n', () => process.exit(0));
  } else if (command === 'reissue') {
    const done = await reissue(file ? reissueSettings(file, await text(process.stdin)) : parse(await firstLine()));
    process.stdout.write(`ready ${JSON.stringify(done)}\n`, () => process.exit(0));
  } else if (command === 'init') {
    await initialise(parseInitSettings(file ? initSettings(file, await text(process.stdin)) : parse(await firstLine())));
    process.stdout.write('ready\n', () => process.exit(0));
  } else {
    const settings = file ? readTokenFile(file, root).settings : parseTokenSettings(parse(await firstLine()));
    const served = await serveTokenProcess(settings, fileURLToPath(new URL('worker.js', import.meta.url)));
    const end = () => {
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), GRACE_MS);
      void served.stop().then(() => process.exit(0));
    };
    process.once('SIGTERM', end);
    // Control-C reaches the whole terminal group; who started us may still need answers to end in order, and closes our stdin afterwards.
    process.on('SIGINT', file ? end : () => undefined);
    if (!file) process.stdin.resume().once('close', end);
    process.stdout.write('ready\n');
  }
} catch (error) {
  const why = error instanceof HsmError ? seen(new Fault('misconfigured', error.code, error.message)) : seen(error);
  process.stderr.write(`token process: ${why.message}\n`);
  process.stdout.write(`failed ${JSON.stringify(why)}\n`, () => process.exit(exitStatus(error)));
}

/** Whoever asks says what the authorities are called, and nothing about paths or programs: those are of this file and this installation. */
function initSettings(file: string, request: string): object {
  const { settings, softhsmTokens } = readTokenFile(file, root);
  const { authorities, organisation, domains, publicName, urls, custody } = z.looseObject({}).parse(parse(request));
  if (custody !== undefined && !shares)
    throw new Fault('misconfigured', 'shares-folder', 'there are custodians: say where their shares are written (--shares FOLDER)');
  return {
    token: { ...settings, ...(pinFile ? { pinFile: resolve(pinFile) } : {}) },
    ...(softhsmTokens === undefined ? {} : { softhsmTokens }),
    kekHelper: join(root, 'dist/native/ekms-kek'),
    ...{ authorities, organisation, domains, publicName, urls },
    ...(custody === undefined || !shares ? {} : { custody: { plan: custody, out: resolve(shares) } }),
  };
}

/** `main.js reissue FILE FOLDER SHARE…`: places from the file, who the custodians are to be from stdin, shares from files. */
function reissueSettings(file: string, plan: string): object {
  const [out = '', ...held] = process.argv.slice(4);
  const lines = held.map((path) => /EKMS-SHARE-\S+/i.exec(readFileSync(path, 'utf8'))?.[0] ?? '');
  return { token: readTokenFile(file, root).settings, shares: lines, plan: parse(plan), out: resolve(out) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Fault('misconfigured', 'token-settings', 'the settings of the token process are not JSON');
  }
}

function firstLine(): Promise<string> {
  return new Promise((resolve) => {
    const lines = createInterface({ input: process.stdin });
    lines.once('line', (text) => {
      resolve(text);
      lines.close();
    });
    lines.once('close', () => resolve(''));
  });
}

function exitStatus(error: unknown): number {
  if (error instanceof HsmError) return error.code === 'pin-refused' ? EXIT.configuration : EXIT.unavailable;
  if (isFault(error, 'token-in-use')) return EXIT.again;
  return isFault(error) ? EXIT.configuration : EXIT.defect;
}
