// Encrypting documents to people, against qpdf's encryption by a password and PDFBox's to a certificate, on the same files in one run:
// `node_modules/.bin/node bench/pdf.mjs [--rounds N] [--folder DIR] [--gigabyte MIB]`, with 2.5 GB of room there. Needs qpdf, and a JDK with PDFBox 2 (Debian: qpdf default-jdk-headless libpdfbox2-java libbcmail-java).
import { execFileSync, spawn } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Store } from '../dist/client/src/store/index.js';
import { fileSink, fileSource, PdfFile, permissionBits, publicKeySecurity, rewrite } from '../dist/src/codec/pdf/index.js';
import { machine, median, ratios, spread, verdict } from './support/figures.mjs';
import { root } from './support/home.mjs';
import { scanned, written } from './support/pdf-files.mjs';

const { values: given } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    folder: { type: 'string', default: tmpdir() },
    gigabyte: { type: 'string', default: '1024' },
  },
});
const rounds = Number(given.rounds);
const MIB = 2 ** 20;
const JARS = ['pdfbox2', 'fontbox2', 'commons-logging', 'bcprov', 'bcpkix', 'bcmail', 'bcutil']
  .map((name) => `/usr/share/java/${name}.jar`)
  .join(':');

const folder = mkdtempSync(join(given.folder, 'ekms-bench-pdf-'));
const at = (name) => join(folder, name);
const byQpdf = (name) => run('qpdf', ['--stream-data=preserve', '--encrypt', 'u', 'o', '256', '--', at(name), at('out.pdf')]);
const byMesign = (name) =>
  run(
    process.execPath,
    [join(root, 'dist/programs/mesign.js'), 'pdf', 'encrypt', at(name), '--certificate', at('certificate.pem'), '-o', at('out.pdf')],
    {
      MESIGN_HOME: at('mesign'),
    },
  );

try {
  await prepare();
  console.log(`bench/pdf: ${rounds} rounds, each way in turn; medians (lowest … highest)\n${machine()}\n`);
  await large();
  await small();
  await packed();
  await huge();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function prepare() {
  const subject = [
    '-subj',
    '/CN=bench',
    '-addext',
    'subjectAltName=email:bench@bench.example',
    '-addext',
    'basicConstraints=critical,CA:FALSE',
  ];
  const key = ['-newkey', 'rsa:3072', '-nodes', '-keyout', at('key.pem'), '-out', at('certificate.pem'), '-days', '7'];
  execFileSync('openssl', ['req', '-x509', ...key, ...subject, '-addext', 'keyUsage=keyEncipherment'], { stdio: 'ignore' });
  const certificate = readFileSync(at('certificate.pem'), 'utf8');
  const privateKey = createPrivateKey(readFileSync(at('key.pem')))
    .export({ type: 'pkcs8', format: 'der' })
    .toString('base64');
  const held = { id: 'bench', suite: 'rsa', state: 'active', mode: 'deliver', certificates: [certificate], privateKey };
  await new Store(at('mesign'), undefined).create({
    v: 1,
    server: 'https://localhost:8443',
    address: 'bench@bench.example',
    device: 'bench',
    employee: 'bench',
    root: certificate,
    certificates: [certificate],
    identityKey: privateKey,
    deliveryKey: privateKey,
    keys: [held],
  });
  execFileSync('javac', ['-d', at('judge'), '-cp', JARS, join(root, 'test/interop/pdfbox/Judge.java')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  scanned(at('64-MiB.pdf'), 64, 64 * MIB);
  scanned(at('1-MB.pdf'), 2, 10 ** 6);
  written(at('plain.pdf'), 2000);
  // Pages' contents compressed and other objects in streams, as programs of today write.
  execFileSync('qpdf', ['--object-streams=generate', '--compress-streams=y', '--recompress-flate', at('plain.pdf'), at('2000-pages.pdf')]);
}

async function large() {
  const bytes = statSync(at('64-MiB.pdf')).size;
  const taken = { inside: [], mesign: [], qpdf: [], pdfbox: [], warm: [] };
  inProcess('64-MiB.pdf'); // code that has run hot
  for (let round = 0; round < rounds; round++) {
    taken.qpdf.push((await byQpdf('64-MiB.pdf')).seconds);
    taken.inside.push(inProcess('64-MiB.pdf'));
    taken.mesign.push((await byMesign('64-MiB.pdf')).seconds);
    const { whole, warm } = await byPdfBox('64-MiB.pdf');
    taken.pdfbox.push(whole);
    taken.warm.push(warm);
  }
  const rate = (seconds) => spread(seconds.map((one) => bytes / one / 1e6));
  console.log('64 MiB, 64 pages of pictures, MB/s');
  console.log(`  qpdf --stream-data=preserve --encrypt u o 256  ${rate(taken.qpdf)}`);
  console.log(`  codec/pdf in this process                      ${rate(taken.inside)}`);
  console.log(`  mesign pdf encrypt, whole command, synced      ${rate(taken.mesign)}`);
  console.log(`  PDFBox to a certificate, whole command         ${rate(taken.pdfbox)}`);
  console.log(`  PDFBox again in the same JVM                   ${rate(taken.warm)}`);
  verdict('in process / qpdf', median(ratios(taken.qpdf, taken.inside)), 1);
  verdict('whole command / qpdf', median(ratios(taken.qpdf, taken.mesign)), 0.8);
  verdict('whole command / PDFBox whole command', median(ratios(taken.pdfbox, taken.mesign)), 3);
  console.log(`         in process / PDFBox in a warm JVM: ${median(ratios(taken.warm, taken.inside)).toFixed(2)}\n`);
}

async function small() {
  const taken = { mesign: [], qpdf: [], node: [], crypto: [] };
  await byMesign('1-MB.pdf'); // what V8 keeps of the code is there from now on, as for everybody but the first
  for (let round = 0; round < 3 * rounds; round++) {
    taken.qpdf.push((await byQpdf('1-MB.pdf')).seconds);
    taken.mesign.push((await byMesign('1-MB.pdf')).seconds);
    taken.node.push((await run(process.execPath, ['-e', '0'])).seconds);
    taken.crypto.push((await run(process.execPath, ['-e', "require('node:crypto'); require('node:zlib')"])).seconds);
  }
  const shown = (seconds) => spread(seconds.map((one) => one * 1000));
  console.log(
    `1 MB, whole commands, ms\n  qpdf ${shown(taken.qpdf)}\n  mesign ${shown(taken.mesign)}\n  node that does nothing ${shown(taken.node)}\n  node with its crypto and zlib ${shown(taken.crypto)}`,
  );
  const ratio = median(ratios(taken.mesign, taken.qpdf));
  verdict("whole command's time / qpdf's", ratio, 3, ratio <= 3);
  console.log(`         before a line of ours runs: ${median(ratios(taken.crypto, taken.qpdf)).toFixed(2)}`);
  console.log('');
}

async function packed() {
  const { seconds } = await byMesign('2000-pages.pdf');
  const ratio = statSync(at('out.pdf')).size / statSync(at('2000-pages.pdf')).size;
  console.log(`2,000 pages of words in object streams: ${(seconds * 1000).toFixed(0)} ms`);
  verdict('size of the result / of the source', ratio, 1.05, ratio <= 1.05, 3);
  console.log('');
}

async function huge() {
  scanned(at('huge.pdf'), 1024, Number(given.gigabyte) * MIB);
  const { seconds, peak } = await byMesign('huge.pdf');
  console.log(`${given.gigabyte} MiB: ${seconds.toFixed(1)} s`);
  verdict('peak memory, MB', peak / 1e6, 200, peak <= 200e6, 0);
}

/** Seconds from file to file. */
function inProcess(name) {
  const der = new X509Certificate(readFileSync(at('certificate.pem'))).raw;
  const began = performance.now();
  const [input, output] = [openSync(at(name), 'r'), openSync(at('out.pdf'), 'w')];
  const security = publicKeySecurity(
    [{ certificates: [der], permissions: permissionBits('owner') }],
    { transport: 'pkcs1', cipher: 'aes-256-cbc' },
    'all',
  );
  const file = PdfFile.open(fileSource(input, fstatSync(input).size, readSync));
  rewrite(file, fileSink(output, writeSync, ftruncateSync), { security, signatures: 'refuse' });
  closeSync(input);
  closeSync(output);
  return (performance.now() - began) / 1000;
}

/** Seconds of the whole command, and of the same once more in the same JVM. */
async function byPdfBox(name) {
  const began = performance.now();
  const java = spawn('java', ['-Xmx1g', '-cp', `${JARS}:${at('judge')}`, 'Judge'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const order = ['encrypt', at(name), at('out.pdf'), at('certificate.pem'), '256'].join('\t');
  const answered = async () => {
    java.stdin.write(`${order}\n`);
    const [line] = await new Promise((resolve) => java.stdout.once('data', (bytes) => resolve(String(bytes).split('\n'))));
    if (line !== 'saved=true') throw new Error(`PDFBox: ${line}`);
  };
  await answered();
  const whole = (performance.now() - began) / 1000;
  const again = performance.now();
  await answered();
  const warm = (performance.now() - again) / 1000;
  java.stdin.end();
  await new Promise((resolve) => java.once('close', resolve));
  return { whole, warm };
}

/** Runs a command to its end: seconds, and the most memory that it had at once, in bytes. */
async function run(command, args, environment = {}) {
  rmSync(at('out.pdf'), { force: true });
  const began = performance.now();
  const child = spawn(command, args, { env: { ...process.env, ...environment }, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (bytes) => {
    said += bytes;
  });
  let peak = 0;
  const look = setInterval(() => {
    peak = Math.max(peak, highWater(child.pid));
  }, 50);
  const status = await new Promise((resolve) => child.once('exit', resolve));
  clearInterval(look);
  const seconds = (performance.now() - began) / 1000;
  if (status !== 0) throw new Error(`${command} ended with status ${status}: ${said}`);
  return { seconds, peak };
}

function highWater(pid) {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024;
  } catch {
    return 0; // it has just ended
  }
}
