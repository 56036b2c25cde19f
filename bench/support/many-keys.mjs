import { createPublicKey, randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfiguration } from '../../dist/src/configuration/index.js';
import { base64url, sha256 } from '../../dist/src/foundation/index.js';
import { tokenSettings } from '../../dist/src/house.js';
import { KeyStore } from '../../dist/src/keys/index.js';
import { openStorage } from '../../dist/src/storage/index.js';
import { KEY, Pkcs11Module } from '../../dist/src/tokens/pkcs11/module.js';
import { Pkcs11Hsm } from '../../dist/src/tokens/pkcs11/pkcs11-hsm.js';
import { loadProfile } from '../../dist/src/tokens/pkcs11/profile.js';
import { macInput } from '../../dist/src/tokens/records.js';
import { deliveryKeys, root } from './home.mjs';

/** Rows written together. */
const PAGE = 500;

/**
 * The token of a home that nobody serves at the moment of opening, beside the appliance's own token process: for what a bench knows of a key that the product never
 * says. SoftHSM's one: `SOFTHSM2_CONF` is set for this process.
 */
export function openToken(home) {
  const { module: path, label, profiles, profile: name, state, pinFile } = tokenSettings(loadConfiguration(home), { root });
  process.env['SOFTHSM2_CONF'] = join(home, 'softhsm2.conf');
  const module = new Pkcs11Module(path);
  const session = module.openSession(label);
  session.login(readFileSync(pinFile, 'utf8').trim());
  const profile = loadProfile(profiles, name);
  const hsm = new Pkcs11Hsm(module, { label, profile, canary: readFileSync(join(state, 'canary')) });
  return {
    hsm,
    session,
    kwp: { number: profile.mechanisms.kwp },
    close() {
      hsm.close();
      session.close();
      module.finalise();
    },
  };
}

/**
 * Puts `count` keys of as many people without devices into the database: the first `real` ones are distinct RSA keys (products of a few hundred primes) that the token opens,
 * the others bytes of that length, there for their weight only.
 */
export async function synthesise(home, { real, count, bits }) {
  const token = openToken(home);
  const { hsm, session, kwp } = token;
  const [kek] = session.find({ ...KEY.aes, token: true, label: 'ekms/kek/1' });
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const store = new KeyStore();
  const opened = deliveryKeys(real, bits);
  for (let at = 0; at < count; at += PAGE)
    await storage.write(async (unit) => {
      for (let n = at; n < Math.min(count, at + PAGE); n++) {
        const key = opened[n];
        const publicKey = key ? createPublicKey(key).export({ type: 'spki', format: 'der' }) : randomBytes(294);
        const secret =
          key &&
          session.create({
            ...{ ...KEY.genericSecret, token: false, private: true, sensitive: true, extractable: true },
            value: key.export({ type: 'pkcs8', format: 'der' }),
          });
        const wrapped = secret ? session.wrap(kwp, kek, secret) : randomBytes(1224);
        if (secret) session.destroy(secret);
        const employee = randomUUID();
        const record = {
          ...{ type: 'key', id: randomUUID(), version: 1, employee, suite: 'rsa', bits, state: 'active', mode: 'deliver', kek: '1' },
          ...{ publicKey: base64url(sha256(publicKey)), wrapped: base64url(sha256(wrapped)) },
        };
        await unit.run("INSERT INTO employees (id, state, created) VALUES (?, 'active', 0)", [employee]);
        await store.insert(unit, { sealed: { record, mac: hsm.mac(macInput(record)) }, wrapped, publicKey }, 0);
      }
    });
  await storage.close();
  token.close();
}

/** What a loop of the very calls of a rotation (unwrap, wrap, destroy) does on one session: keys per second, over the first 500 keys of the database. */
export async function ownRate(home) {
  const token = openToken(home);
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  try {
    const pairs = (await new KeyStore().page(storage, '', 500)).map(({ sealed: { record }, wrapped, publicKey }) => {
      return { wrapped, publicKey, kek: record.kek, kind: { suite: record.suite, bits: record.bits } };
    });
    const began = performance.now();
    for (const pair of pairs) token.hsm.renew(pair);
    return (pairs.length / (performance.now() - began)) * 1000;
  } finally {
    await storage.close();
    token.close();
  }
}

/**
 * Opens every key of the database by the token, and looks at its seal.
 * @returns {Promise<{ keys: number, lost: string[], keks: string[] }>} `lost`: ids of keys that do not open, are another key than their row says, or whose record was not sealed so
 */
export async function openAll(home) {
  const token = openToken(home);
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const store = new KeyStore();
  const lost = [];
  const keks = new Set();
  let keys = 0;
  try {
    for (let after = ''; ; ) {
      const page = await store.page(storage, after, PAGE);
      if (page.length === 0) return { keys, lost, keks: [...keks] };
      for (const { sealed, wrapped, publicKey } of page) {
        const { id, kek, suite, bits } = sealed.record;
        keks.add(kek);
        keys++;
        after = id;
        try {
          token.hsm.renew({ wrapped, publicKey, kek, kind: { suite, bits } });
          if (!token.hsm.mac(macInput(sealed.record)).equals(sealed.mac)) lost.push(id);
        } catch {
          lost.push(id);
        }
      }
    }
  } finally {
    await storage.close();
    token.close();
  }
}
