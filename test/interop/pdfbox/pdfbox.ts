import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';

const JARS = ['pdfbox2', 'fontbox2', 'commons-logging', 'bcprov', 'bcpkix', 'bcmail', 'bcutil']
  .map((name) => `/usr/share/java/${name}.jar`)
  .join(':');

/** What PDFBox found in a document; see Judge.java. */
export type Verdict = Readonly<Record<string, string>>;

/** Apache PDFBox 2.0.27 in a process of its own. */
export class PdfBox {
  readonly child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: ((line: string) => void)[] = [];

  private constructor(child: ChildProcess) {
    this.child = child;
    if (!child.stdout) throw new Error('the judge has no output');
    this.#lines = createInterface(child.stdout);
    this.#lines.on('line', (line) => this.#waiting.shift()?.(line));
    child.once('exit', () => {
      for (const answer of this.#waiting.splice(0)) answer('error=the judge has ended');
    });
  }

  /** @param folder where its classes go */
  static start(folder: string): PdfBox {
    execFileSync('javac', ['-d', join(folder, 'judge'), '-cp', JARS, resolve('test/interop/pdfbox/Judge.java')], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return new PdfBox(
      spawn('java', ['-Xmx700m', '-XX:TieredStopAtLevel=1', '-cp', `${JARS}:${join(folder, 'judge')}`, 'Judge'], {
        stdio: ['pipe', 'pipe', 'ignore'],
      }),
    );
  }

  /** @param key PKCS#12 and its password */
  look(file: string, key?: { p12: string; password: string }): Promise<Verdict> {
    return this.#ask('look', file, ...(key ? [key.p12, key.password] : []));
  }

  /** PDFBox's own encryption: AES where `bits` is 128 or 256, RC4 with `old`. */
  encrypt(from: string, to: string, certificate: string, bits: 128 | 256, old = false): Promise<Verdict> {
    return this.#ask('encrypt', from, to, certificate, String(bits), ...(old ? ['rc4'] : []));
  }

  async stop(): Promise<void> {
    this.child.stdin?.end();
    if (this.child.exitCode === null) await once(this.child, 'exit');
  }

  async #ask(...words: string[]): Promise<Verdict> {
    const answer = new Promise<string>((resolve) => this.#waiting.push(resolve));
    this.child.stdin?.write(`${words.join('\t')}\n`);
    return Object.fromEntries(
      (await answer).split('\t').map((field) => [field.slice(0, field.indexOf('=')), field.slice(field.indexOf('=') + 1)]),
    );
  }
}
