import { writeFileSync } from 'node:fs';
import { TestAppliance, type TestKey } from './test-appliance.js';
import { TestAuthority } from './test-authority.js';
import { TestHouse } from './test-house.js';

export const ALICE = 'alice@corp.example';
export const BOB = 'bob@corp.example';

/** Alice's device, enrolled, with the keys that a test gave her before; certificates lie about as PEM for openssl. */
export class MailHouse extends TestHouse {
  private constructor(
    readonly authority: TestAuthority,
    readonly appliance: TestAppliance,
  ) {
    super();
  }

  static async open(prepare: (house: MailHouse) => Promise<void>): Promise<MailHouse> {
    const authority = await TestAuthority.create();
    const folder = new TestHouse();
    const house = new MailHouse(authority, await TestAppliance.start(authority, folder.path('mail')));
    writeFileSync(house.path('ca.pem'), authority.rootPem);
    writeFileSync(house.path('app.json'), house.appliance.credential());
    await prepare(house);
    const enrolled = await house.enroll('home', ALICE);
    folder.remove();
    if (enrolled.status === 0) return house;
    await house.close();
    throw new Error(enrolled.said);
  }

  enroll(home: string, address: string) {
    const mailbox = `maildir:${this.appliance.mailFolder}/${address}`;
    return this.mesign(
      home,
      'enroll',
      '--server',
      this.appliance.url,
      '--ca',
      this.path('ca.pem'),
      '--app',
      this.path('app.json'),
      '--email',
      address,
      '--mailbox',
      mailbox,
    );
  }

  /** A key whose newest certificate lies in `name`.pem and whose private key in `name`.key. */
  async key(name: string, address: string, changes: Partial<TestKey> = {}): Promise<TestKey> {
    const key = await this.appliance.giveKey(address, changes);
    writeFileSync(this.path(`${name}.pem`), key.certificates[0] ?? '');
    writeFileSync(this.path(`${name}.key`), key.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    return key;
  }

  decrypt(name: string, ...more: string[]) {
    return this.mesign('home', 'decrypt', this.path(name), '-o', this.path('out'), ...more);
  }

  async close(): Promise<void> {
    await this.appliance.stop();
    this.remove();
  }
}
