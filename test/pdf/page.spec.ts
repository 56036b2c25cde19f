import { readFileSync } from 'node:fs';
import { expect, jest, test } from '@jest/globals';
import { decrypted } from '../codec/pdf/documents.js';
import { TestBrowser } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { openKey } from '../support/open-delivery.js';
import { richPdf } from '../support/rich-pdf.js';
import { enrolDevice, keysOf } from '../support/wire-device.js';

jest.setTimeout(90_000);

test('staff drop a document on the page, name a person, and get back what that person can open', async () => {
  const house = await HouseInProcess.open({ settings: { keys: { bits: 2048, pool: { target: 2 } } } });
  const browser = await TestBrowser.open(house.root);
  try {
    await keysOf(house, await enrolDevice(house, 'alice@corp.example'));
    const bob = await enrolDevice(house, 'bob@corp.example');
    const [key] = await keysOf(house, bob);
    const { cookie } = await house.house.storage.write((unit) =>
      house.house.sessions.begin(
        unit,
        { audience: 'staff', subject: 'alice@corp.example', method: 'mail' },
        { kind: 'staff' },
        { id: 'r', network: '127.0.0.1' },
      ),
    );
    const [name = '', value = ''] = cookie.split(';')[0]?.split('=') ?? [];
    const { context, page } = await browser.person();
    const origin = house.house.origins.of('staff');
    await context.addCookies([{ name, value, url: origin, secure: true, httpOnly: true, sameSite: 'Strict' }]);
    await page.goto(`${origin}/pdf.html`);
    await page.setInputFiles('#documents', { name: 'figures.pdf', mimeType: 'application/pdf', buffer: await richPdf() });
    await page.fill('#recipients', 'nobody@corp.example');
    await page.click('button');
    await page.waitForFunction("document.getElementById('message').textContent.includes('recipients-unresolved')");
    await page.fill('#recipients', 'bob@corp.example');
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('button')]);
    expect(download.suggestedFilename()).toBe('figures.encrypted.pdf');
    const bytes = readFileSync(await download.path());
    expect(decrypted(bytes, openKey(key?.delivery ?? null, bob.keys.delivery)).told.pages).toBe(3);
    expect(house.defects).toEqual([]);
  } finally {
    await browser.close();
    await house.close();
  }
});
