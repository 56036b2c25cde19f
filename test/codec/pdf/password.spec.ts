import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { lockOf, Opening, PdfFile, rewrite } from '../../../src/codec/pdf/index.js';
import { richPdf } from '../../support/rich-pdf.js';
import { MemorySink, sourceOf } from './documents.js';

/** Every line of every object and stream that qpdf finds in a document, by its own decoding; objects have other numbers. */
const shown = (path: string, ...how: string[]): string[] =>
  execFileSync('qpdf', ['--qdf', '--static-id', '--no-original-object-ids', '--object-streams=disable', ...how, path, '-'], {
    maxBuffer: 2 ** 26,
    encoding: 'latin1',
  })
    .split('\n')
    .map((line) => line.replace(/\d+ 0 (R|obj)/g, '$1'))
    .filter((line) => !/^(%PDF-|\d{10} |\d+$)|\/ID \[/.test(line))
    .sort();

describe('documents under a password, as qpdf makes them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-password-'));
  const at = (name: string) => join(folder, name);
  beforeAll(async () => writeFileSync(at('plain.pdf'), await richPdf()));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each([
    ['revision 2, RC4 of 40 bits', ['40', '--']],
    ['revision 3, RC4 of 128 bits', ['128', '--use-aes=n', '--']],
    ['revision 4, AES-128', ['128', '--use-aes=y', '--']],
    ['revision 4, metadata plain', ['128', '--use-aes=y', '--cleartext-metadata', '--']],
    ['revision 5, AES-256', ['256', '--force-R5', '--']],
    ['revision 6, AES-256', ['256', '--']],
  ])('%s: opens by either password and by no other, to what it was', (_, how) => {
    execFileSync('qpdf', ['--allow-weak-crypto', '--encrypt', 'Anna', 'Björn', ...how, at('plain.pdf'), at('locked.pdf')], {
      stdio: 'ignore',
    });
    for (const [password, isOwner] of [
      ['Anna', false],
      ['Björn', true],
      ['anna', undefined],
      ['', undefined],
    ] as const) {
      const file = PdfFile.open(sourceOf(readFileSync(at('locked.pdf'))));
      const found = lockOf(file);
      if (found.kind !== 'password') throw new Error('it is under no password');
      const opened = found.lock.open(password);
      expect(opened?.isOwner).toBe(isOwner);
      if (!opened) continue;
      file.decryption = new Opening(opened.filters);
      const sink = new MemorySink();
      expect(rewrite(file, sink, { signatures: 'refuse' })).toMatchObject({ pages: 3, warnings: [] });
      writeFileSync(at('open.pdf'), sink.bytes);
      expect(shown(at('open.pdf'))).toEqual(shown(at('locked.pdf'), '--decrypt', '--password=Anna'));
      execFileSync('qpdf', ['--check', at('open.pdf')], { stdio: 'ignore' });
    }
  });
});
