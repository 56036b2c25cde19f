import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { encodeNoteKey } from '../../src/codec/merkle/index.js';
import { entriesOf, exportOf, type Files, rootOf, Signer, sha256 } from '../audit/tampering.js';
import { dice } from '../faults/dice.js';
import { type BrowserPerson, raw, TestBrowser } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';

jest.setTimeout(60_000);

/** The verifier's page in a real browser: an auditor, not signed in, with a folder and a key. */
describe('the page that verifies, in Chromium', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-page-'));
  const signer = new Signer();
  const entries = entriesOf(600, dice(9));
  const clean = exportOf(entries, signer.note(600, rootOf(entries)));
  let house: HouseInProcess;
  let browser: TestBrowser;
  let anna: BrowserPerson;
  let base: string;
  const requests: string[] = [];

  beforeAll(async () => {
    house = await HouseInProcess.open();
    base = house.house.origins.of('administration');
    browser = await TestBrowser.open(house.root);
    anna = await browser.person();
    anna.page.on('request', (request) => requests.push(request.url()));
    writeFileSync(join(folder, 'audit.pub'), `${encodeNoteKey(sha256, signer.key)}\n`);
    writeFileSync(join(folder, 'head'), signer.note(600, rootOf(entries)));
  });
  afterAll(async () => {
    await browser?.close();
    await house?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const written = (name: string, files: Files): string => {
    for (const [path, bytes] of files) {
      mkdirSync(dirname(join(folder, name, path)), { recursive: true });
      writeFileSync(join(folder, name, path), bytes);
    }
    return join(folder, name);
  };
  const verdict = async (where: string, key: string, heads: string[] = []) => {
    const { page } = anna;
    await page.goto(`${base}/verify/`);
    await page.setInputFiles('#folder', where);
    await page.setInputFiles('#key', key);
    if (heads.length > 0) await page.setInputFiles('#heads', heads);
    await page.click('#verify');
    await page
      .locator('#verdict')
      .filter({ hasText: /^(Good|Not|This|It)/ })
      .waitFor();
    const said = (await page.textContent('#verdict')) ?? '';
    return { said, beyond: (await page.textContent('#beyond')) ?? '', damages: await page.locator('#damages li').allTextContents() };
  };

  test('a good export is good, and what cannot be excluded is said; with a remembered head that is less', async () => {
    const where = written('clean', clean);
    const alone = await verdict(where, join(folder, 'audit.pub'));
    expect(alone).toEqual({
      said: 'Good: 600 entries, as the key signed them',
      beyond: expect.stringMatching(/later cuts cannot be excluded/),
      damages: [],
    });
    const remembered = await verdict(where, join(folder, 'audit.pub'), [join(folder, 'head')]);
    expect(remembered.beyond).toMatch(/entries after the newest remembered head/);
  });

  test('one changed byte is named with its entry; another key vouches for nothing', async () => {
    const bundle = Buffer.from(clean.get('tile/entries/001') ?? []);
    const at = bundle.indexOf('"index":"300"') + 9;
    bundle.write('9', at);
    const damaged = await verdict(written('damaged', new Map(clean).set('tile/entries/001', bundle)), join(folder, 'audit.pub'));
    expect(damaged.said).toBe('Not whole; the first bad entry is 300');
    expect(damaged.damages[0]).toMatch(/at entry 300/);
    const { said, damages } = await verdict(join(folder, 'clean'), join(house.house.configuration.home, 'audit.pub'));
    expect(said).toBe('Not whole');
    expect(damages[0]).toMatch(/the given key did not sign it/);
  });

  test('an evidence pack is verified by the same page', async () => {
    await house.house.checkpoints.publish();
    const { zip } = (await house.act('audit.evidence', {})) as {
      zip: string;
    };
    writeFileSync(join(folder, 'pack.zip'), Buffer.from(zip, 'base64'));
    execFileSync('python3', ['-m', 'zipfile', '-e', join(folder, 'pack.zip'), join(folder, 'pack')]);
    const key = join(house.house.configuration.home, 'audit.pub');
    expect((await verdict(join(folder, 'pack'), key)).said).toMatch(/^Good: this pack is as it was sealed/);
    writeFileSync(join(folder, 'pack/policy.json'), readFileSync(join(folder, 'pack/policy.json'), 'utf8').replace('{', '{ '));
    expect((await verdict(join(folder, 'pack'), key)).damages[0]).toMatch(/policy\.json is not the file that was sealed/);
  });

  test('the page sends nothing, and runs under the strict policy of all pages; the staff listener has none', async () => {
    expect(new Set(requests.map((url) => new URL(url).origin))).toEqual(new Set([base]));
    expect(requests.filter((url) => /\/v1\//.test(url))).toEqual([]);
    const page = await raw(`${base}/verify/`, house.root);
    expect(page).toMatchObject({ status: 200, type: 'text/html; charset=utf-8' });
    expect(page.body.toString()).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\son[a-z]+=/);
    expect((await raw(`${house.house.origins.of('staff')}/verify/`, house.root)).status).toBe(404);
  });
});
