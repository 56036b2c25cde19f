import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { lockOf, PdfFile, permissionBits, publicKeySecurity, rewrite } from '../../src/codec/pdf/index.js';
import { isFault } from '../../src/foundation/index.js';
import { decrypted, MemorySink, sourceOf, testCertificate, vector } from '../codec/pdf/documents.js';
import { dice } from '../codec/pdf/fuzz.js';
import { PdfBox, type Verdict } from './pdfbox/pdfbox.js';

/** Debian packages whose documents the campaign takes, besides those that lie on the machine and in node_modules. */
const PACKAGES = ['texlive-humanities-doc', 'texlive-latex-base-doc'];
/** Bytes of one document: larger ones would say the same more slowly. */
const MOST = 20 * 2 ** 20;

export interface CorpusTold {
  /** Looked at; of these qpdf reads `readable`, which are not encrypted before. */
  files: number;
  readable: number;
  encrypted: number;
  /** Of the encrypted ones: PDFBox opened the source and found the very same in ours. */
  same: number;
  /** PDFBox does not open the source itself: nothing to compare by. */
  unjudged: number;
  /** Decrypted by us, and found clean by qpdf as far as the source was, and the same by PDFBox. */
  returned: number;
  /** By our code: what was refused, though qpdf reads it. */
  refused: Record<string, string[]>;
  /** Whatever should not be. */
  defects: string[];
}

/** Encrypts each of `paths`, lets PDFBox open and compare it, decrypts it again, lets qpdf and PDFBox look at that. */
export async function pdfCorpus(paths: readonly string[], box: PdfBox, folder: string): Promise<CorpusTold> {
  const told: CorpusTold = { files: 0, readable: 0, encrypted: 0, same: 0, unjudged: 0, returned: 0, refused: {}, defects: [] };
  const key = { p12: testStore(folder), password: 'secret' };
  const [sealed, open] = [join(folder, 'sealed.pdf'), join(folder, 'open.pdf')];
  for (const path of paths) {
    told.files++;
    const before = qpdfStatus(path);
    if (before === undefined || spawnSync('qpdf', ['--is-encrypted', path]).status === 0) continue;
    told.readable++;
    const name = basename(path);
    const bytes = tried(path);
    if (typeof bytes === 'string') {
      if (bytes.startsWith('DEFECT')) told.defects.push(`${path}: ${bytes}`);
      told.refused[bytes] = [...(told.refused[bytes] ?? []), name];
      continue;
    }
    told.encrypted++;
    writeFileSync(sealed, bytes);
    writeFileSync(open, decrypted(bytes).bytes);
    const after = qpdfStatus(open);
    const isClean = after !== undefined && after <= before;
    const source = await box.look(path);
    if (source['error'] !== undefined) {
      told.unjudged++;
      if (isClean) told.returned++;
      else told.defects.push(`${path}: qpdf finds fault with what we decrypted (status ${after}, source ${before})`);
      continue;
    }
    const [ours, back] = [await box.look(sealed, key), await box.look(open)];
    const differs = (found: Verdict, encrypted: string) =>
      Object.keys({ ...source, ...found }).filter((what) => (what === 'encrypted' ? encrypted : source[what]) !== found[what]);
    const [sealedDiffers, openDiffers] = [differs(ours, 'true'), differs(back, 'false')];
    if (sealedDiffers.length === 0) told.same++;
    else told.defects.push(`${path}: PDFBox finds another ${sealedDiffers.join(', ')} ${ours['error'] ?? ''}`);
    if (openDiffers.length === 0 && isClean) told.returned++;
    else told.defects.push(`${path}: decrypted, it has another ${openDiffers.join(', ')}; qpdf says ${after}, of the source ${before}`);
  }
  return told;
}

/** 0 clean, 3 with warnings; undefined where qpdf gives up. */
function qpdfStatus(path: string): number | undefined {
  const { status } = spawnSync('qpdf', ['--check', path], { stdio: 'ignore' });
  return status === 0 || status === 3 ? status : undefined;
}

/** The encrypted document, or the code of the refusal. */
function tried(path: string): Buffer | string {
  const sink = new MemorySink();
  const security = publicKeySecurity(
    [{ certificates: [testCertificate], permissions: permissionBits('owner') }],
    { transport: 'pkcs1', cipher: 'aes-256-cbc' },
    'all',
  );
  try {
    const file = PdfFile.open(sourceOf(readFileSync(path)));
    if (lockOf(file).kind !== 'none') return 'pdf-encrypted';
    rewrite(file, sink, { security, signatures: 'break' });
    return sink.bytes;
  } catch (error) {
    return isFault(error) ? error.code : `DEFECT ${error instanceof Error ? error.stack : String(error)}`;
  }
}

/** pyHanko's published test key as PKCS#12. */
function testStore(folder: string): string {
  const at = (name: string) => join(folder, name);
  writeFileSync(at('corpus-key.pem'), vector('pyhanko/selfsigned.key.pem'));
  writeFileSync(at('corpus-certificate.pem'), vector('pyhanko/selfsigned.cert.pem'));
  const made = [
    '-passin',
    'pass:secret',
    '-passout',
    'pass:secret',
    '-keypbe',
    'PBE-SHA1-3DES',
    '-certpbe',
    'PBE-SHA1-3DES',
    '-macalg',
    'sha1',
  ];
  const from = ['-inkey', at('corpus-key.pem'), '-in', at('corpus-certificate.pem'), '-out', at('corpus.p12')];
  execFileSync('openssl', ['pkcs12', '-export', ...from, ...made], { stdio: 'ignore' });
  return at('corpus.p12');
}

/** PDFs below `folders`, smaller than MOST, each path once. */
export function pdfsIn(folders: readonly string[]): string[] {
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) =>
      execFileSync('find', [folder, '-xdev', '-type', 'f', '-name', '*.pdf', '-size', `-${MOST}c`], { encoding: 'utf8' }).split('\n'),
    )
    .filter((path) => path !== '')
    .sort();
}

/** What installed packages bring: documents on this machine and in node_modules. */
export const atHand = (): string[] => pdfsIn(['/usr/share', resolve('node_modules')]);

/** The packages' documents, fetched once and kept in `.setup`. */
function fetched(): string[] {
  const folder = resolve('.setup/pdf-corpus');
  if (!existsSync(join(folder, 'whole'))) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    execFileSync('apt-get', ['download', ...PACKAGES], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] });
    for (const name of readdirSync(folder).filter((file) => file.endsWith('.deb')))
      execFileSync('dpkg-deb', ['-x', name, 'content'], { cwd: folder, stdio: 'inherit' });
    writeFileSync(join(folder, 'whole'), '');
  }
  return pdfsIn([join(folder, 'content')]);
}

export async function main(): Promise<void> {
  const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '1000' } } });
  const roll = dice(Number(values.seed));
  const all = [...fetched(), ...atHand()].map((path) => ({ path, order: roll(2 ** 31) })).sort((a, b) => a.order - b.order);
  const folder = mkdtempSync(join(tmpdir(), 'ekms-corpus-'));
  const box = PdfBox.start(folder);
  try {
    const told = await pdfCorpus(
      all.slice(0, Number(values.count)).map(({ path }) => path),
      box,
      folder,
    );
    const { refused, defects, ...figures } = told;
    console.log(`documents of ${PACKAGES.join(', ')}, of this machine and of node_modules: ${all.length}`);
    console.log(figures);
    for (const [code, names] of Object.entries(refused)) console.log(`refused, ${code}: ${names.join(', ')}`);
    for (const defect of defects) console.log(defect);
    if (defects.length > 0 || told.encrypted < 0.99 * told.readable) process.exitCode = 1;
  } finally {
    await box.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
