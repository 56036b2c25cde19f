import 'reflect-metadata';
import { join } from 'node:path';
import { expect, jest, test } from '@jest/globals';
import { TestBrowser } from '../support/browser.js';
import { HouseInProcess } from '../support/house-in-process.js';
import { TestAdministrator } from '../support/officers.js';

jest.setTimeout(60_000);

/** README's picture, made anew: `node_modules/.bin/jest --testRegex console.picture.ts`. */
test('the console as an officer sees it whose yes is asked for', async () => {
  const house = await HouseInProcess.open();
  const browser = await TestBrowser.open(house.root);
  try {
    const anna = await browser.person();
    await anna.authenticator();
    await anna.page.setViewportSize({ width: 1100, height: 960 });
    await anna.page.goto(((await house.act('admin.invite', {})) as { link: string }).link);
    await anna.page.fill('#name', 'Anna Officer');
    await anna.page.fill('#address', 'anna@corp.example');
    await anna.page.click('button');
    await anna.page.locator('#inside').waitFor();
    const boris = await TestAdministrator.register(house, 'boris', 'security-officer');
    const vera = await TestAdministrator.register(house, 'vera', undefined);
    expect((await boris.act('admin.role', { id: vera.id, role: 'recovery-agent' })).status).toBe(202);
    await anna.page.reload();
    await anna.page.locator('[data-request]').first().waitFor();
    await anna.page.screenshot({
      path: join(__dirname, '../../docs/pictures/console.png'),
      clip: { x: 0, y: 0, width: 1100, height: 960 },
    });
  } finally {
    await browser.close();
    await house.close();
  }
});
