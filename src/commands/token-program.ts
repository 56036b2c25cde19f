import { spawn } from 'node:child_process';
import { Fault, type FaultKind } from '../foundation/index.js';

/**
 * The token process's own `init`, `restore`, `reissue` and `pin`: it alone ever holds PIN and shares. Settings go by standard input. Resolves with what it says
 * when it is done; rejects with its own refusal.
 */
export async function askTokenProgram(command: 'init' | 'restore' | 'reissue' | 'pin', settings: unknown, entry: string): Promise<unknown> {
  const child = spawn(process.execPath, [entry, command], { stdio: ['pipe', 'pipe', 'pipe'] });
  let answer = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stdin.end(`${JSON.stringify(settings)}\n`);
  const status = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  const [word, rest = ''] = answer.trim().split(/ (.*)/s);
  if (status === 0 && word === 'ready') return rest === '' ? undefined : JSON.parse(rest);
  if (word === 'failed' && command !== 'init') {
    const { kind, code, message } = JSON.parse(rest) as { kind: FaultKind; code: string; message: string }; // faultOnWire, of our own program
    throw new Fault(kind, code, message);
  }
  throw new Fault('misconfigured', `token-${command}-failed`, said.trim() || `the token could not be made (status ${status})`);
}
