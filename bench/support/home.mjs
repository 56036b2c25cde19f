import {
  constants,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  generatePrimeSync,
  privateDecrypt,
  randomBytes,
  randomUUID,
  sign,
  X509Certificate,
} from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { certificationRequest } from '../../dist/client/src/x509/index.js';
import { configurationFile, loadConfiguration } from '../../dist/src/configuration/index.js';
import { must } from '../../dist/src/demo/programs.js';
import { base64url, canonicalJson, parseAddress, sha256 } from '../../dist/src/foundation/index.js';
import { openHouse, placesOf, tokenSettings } from '../../dist/src/house.js';
import { KeyStore } from '../../dist/src/keys/index.js';
import { MemoryTransport } from '../../dist/src/mail/index.js';
import { openStorage } from '../../dist/src/storage/index.js';
import { TokenProcess } from '../../dist/src/tokens/index.js';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const DOMAIN = 'bench.example';
const installation = { root };

/**
 * An initialised appliance with `people` people of one device and one key each, all made by the product's own use cases and a real token.
 * It is kept under `folder`, for making the pairs takes minutes; the same numbers find it again.
 * @param custodians by a ceremony; two of the shares beside it open its backups
 * @returns {Promise<{ home: string, devices: Device[], app: object }>}
 * @typedef {{ id: string, employee: string, certificates: string[], identity: string, delivery: string }} Device
 */
export async function preparedHome({ people, bits = 3072, folder = join(tmpdir(), 'ekms-bench'), custodians = false }) {
  const home = join(folder, `${bits}-${people}${custodians ? '-custodians' : ''}`);
  const list = join(home, 'devices.json');
  if (!existsSync(list)) {
    rmSync(home, { recursive: true, force: true });
    mkdirSync(home, { recursive: true, mode: 0o700 });
    configure(home, { bits });
    process.stderr.write(`making ${people} people with RSA-${bits} keys in ${home} …\n`);
    rmSync(`${home}-shares`, { recursive: true, force: true });
    const ceremony = ['ceremony', '--custodian', 'Ada=paper', 'Ben=paper', 'Cleo=paper', '--shares', `${home}-shares`];
    await must(process.execPath, [join(root, 'dist/programs/main.js'), ...(custodians ? ceremony : ['init'])], { EKMS_HOME: home });
    const made = await inHouse(home, (house, transport) => populate(house, transport.accepted, people));
    writeFileSync(list, JSON.stringify(made), { mode: 0o600 });
  }
  return { home, ...JSON.parse(readFileSync(list, 'utf8')) };
}

/** A copy of a prepared home, to be spent. */
export function copyHome(from, home, { bits }) {
  cpSync(from, home, { recursive: true });
  const softhsm = join(home, 'softhsm2.conf');
  writeFileSync(softhsm, readFileSync(softhsm, 'utf8').replaceAll(from, home));
  configure(home, { bits });
}

/** Ports of 0 would change at each start: an appliance under test says where it listens only in its configuration. */
export function configure(home, { bits = 3072, client = 0, open = 0, operation = 0, pool = 0, workers = 2 }) {
  const at = (port) => `"127.0.0.1:${port}"`;
  const listen = `{ client: ${at(client)}, administration: ${at(0)}, staff: ${at(0)}, public: ${at(open)}, operation: ${at(operation)} }`;
  // One machine plays a whole site here: each budget is lifted, none is switched off.
  process.stderr.write('budgets are lifted for this bench\n');
  const keys = `{ bits: ${bits}, pool: { target: ${pool} } }`;
  writeFileSync(
    configurationFile(home),
    `listen: ${listen}\ndomains: [${DOMAIN}]\nkeys: ${keys}\ntoken: { workers: ${workers} }\nbudgets: ${JSON.stringify(liftedBudgets())}\n`,
    {
      mode: 0o600,
    },
  );
}

function liftedBudgets() {
  const short = { minute: 1_000_000_000 };
  const lifted = { ...short, day: 1_000_000_000 };
  const shared = { app: lifted, site: lifted, appliance: lifted };
  return {
    challenges: { mailbox: short, source: short, ...shared },
    enrolments: { person: lifted, source: short, ...shared },
    retrievals: { device: lifted, person: lifted, ...shared },
    decryptions: { device: lifted, person: lifted, ...shared },
  };
}

/** Opens the house of `home` in this process, with mail that goes nowhere. */
export async function inHouse(home, work) {
  const transport = new MemoryTransport();
  const house = await openHouse(loadConfiguration(home), installation, { transport });
  try {
    return await work(house, transport);
  } finally {
    await house.close();
  }
}

async function populate(house, mails, people) {
  const app = await house.apps.issue('linux', { kind: 'operator' });
  let said = 0;
  await house.pool.fill(people, (level) => {
    if (level - said < 32) return;
    said = level;
    process.stderr.write(`  ${level} pairs\n`);
  });
  house.mail.start();
  const keys = deliveryKeys(people);
  const devices = [];
  for (const [n, delivery] of keys.entries()) devices.push(await enrol(house, app.id, mails, `person${n}@${DOMAIN}`, delivery));
  return { devices, app };
}

/** Enrols one device through the product's own use cases. `took`: gets the milliseconds of the request and of the answer. */
export async function enrol(house, app, mails, text, delivery, took = {}) {
  const identity = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const address = parseAddress(text);
  const actor = () => ({
    kind: 'app',
    id: app,
    platform: 'linux',
    nonce: randomBytes(16).toString('base64url'),
    request: { id: randomUUID(), network: '127.0.0.1' },
  });
  const ask = { address, csr: certificationRequest(identity, 'bench'), delivery: spkiOf(delivery), platform: 'linux', name: null };
  const begun = await timed(took, 'request', () => house.desk.request(actor(), ask));
  await house.mail.flush();
  const mail = mails.findLast((one) => one.to === address.shown && /^Subject: ACME: /m.test(one.bytes));
  const half1 = challengeOf(mail.bytes);
  const given = answerTo({ begun, address: address.key, half1, identity, delivery, root: house.authorities.root });
  const answer = { ...given, signature: Buffer.from(given.signature, 'base64url'), nonce: Buffer.from(given.nonce, 'base64url') };
  const { device, employee, certificates } = await timed(took, 'answer', () => house.desk.answer(actor(), begun.id, answer));
  return { id: device, employee, certificates, identity: pkcs8(identity), delivery: pkcs8(delivery) };
}

async function timed(took, name, act) {
  const began = performance.now();
  const value = await act();
  took[name] = performance.now() - began;
  return value;
}

export const challengeOf = (mail) => /^Subject: ACME: (\S+)/m.exec(mail.toString('latin1'))?.[1];

/** docs/formats/enrolment.md §3. */
export function answerTo({ begun, address, half1, identity, delivery, root: authority }) {
  const { crv, kty, x, y } = createPublicKey(identity).export({ format: 'jwk' });
  const body = { v: 1, enrolment: begun.id, address, half1, half2: begun.half, jkt: base64url(sha256(canonicalJson({ crv, kty, x, y }))) };
  const answer = base64url(
    sha256(canonicalJson({ ...body, delivery: base64url(sha256(spkiOf(delivery))), server: base64url(sha256(authority)) })),
  );
  return {
    answer,
    signature: base64url(sign('sha256', Buffer.from(answer), { key: identity, dsaEncoding: 'ieee-p1363' })),
    nonce: openNonce(delivery, begun.nonce),
  };
}

const openNonce = (key, nonce) =>
  base64url(privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, Buffer.from(nonce, 'base64')));

export const spkiOf = (key) => createPublicKey(key).export({ type: 'spki', format: 'der' });
const pkcs8 = (key) => key.export({ type: 'pkcs8', format: 'pem' }).toString();

/**
 * `count` different RSA keys in seconds: each is the product of another two of a few primes. Good for nothing but a bench, where a
 * client must have a key of its own and nobody attacks it.
 */
export const deliveryKeys = (count, bits = 3072) => [...distinctKeys(count, bits)];

/** The same one after another, of which nobody keeps more than they want. */
export function* distinctKeys(count, bits) {
  const primes = [];
  for (let made = 0; made < count; ) {
    const prime = generatePrimeSync(bits / 2, { bigint: true });
    for (const other of primes) if (made++ < count) yield rsaKey(prime, other);
    primes.push(prime);
  }
}

function rsaKey(p, q) {
  const e = 65537n;
  const phi = (p - 1n) * (q - 1n);
  // What makes 1 + k·phi a multiple of e: so d is found by small numbers.
  const d = (1n + inverse(e - (phi % e), e) * phi) / e;
  const numbers = { n: p * q, e, d, p, q, dp: d % (p - 1n), dq: d % (q - 1n), qi: inverse(q, p) };
  const jwk = Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, number(value)]));
  return createPrivateKey({ key: { kty: 'RSA', ...jwk }, format: 'jwk' });
}

const number = (value) => {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 ? `0${hex}` : hex, 'hex').toString('base64url');
};

function inverse(a, m) {
  let [r, next, s, t] = [m, a % m, 0n, 1n];
  while (next !== 0n) {
    const q = r / next;
    [r, next, s, t] = [next, r - q * next, t, s - q * t];
  }
  return ((s % m) + m) % m;
}

/** A token process of `home` as the API process has it, with this many sessions for retrievals. */
export async function tokenProcess(home, workers) {
  const configuration = loadConfiguration(home);
  const settings = tokenSettings({ ...configuration, token: { ...configuration.token, workers } }, installation);
  const token = new TokenProcess({ entry: placesOf(configuration, installation).tokenEntry, settings });
  await token.start();
  return token;
}

/** What the vault asks of the token to release each device's key, read from the database. */
export async function askedReleases(home, devices) {
  const storage = await openStorage({ url: 'sqlite:ekms.db', home });
  const store = new KeyStore();
  try {
    return await Promise.all(
      devices.map(async ({ employee, certificates, delivery }) => {
        const { id } = await storage.one("SELECT id FROM keys WHERE employee = ? AND state = 'active'", [employee]);
        const { sealed, wrapped, publicKey } = await store.find(storage, id);
        const device = { certificate: new X509Certificate(certificates[0]).raw, deliveryKey: spkiOf(createPrivateKey(delivery)) };
        return { key: sealed, blob: { wrapped, publicKey }, device };
      }),
    );
  } finally {
    await storage.close();
  }
}
