import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Hsm, StoredPair } from '../../src/tokens/hsm.js';
import { initialiseToken } from '../../src/tokens/pkcs11/ceremony.js';
import { inspectToken } from '../../src/tokens/pkcs11/inspection.js';
import { type Handle, KEY, Pkcs11Module, type TokenSession } from '../../src/tokens/pkcs11/module.js';
import { Pkcs11Hsm } from '../../src/tokens/pkcs11/pkcs11-hsm.js';
import { selfTest } from '../../src/tokens/pkcs11/self-test.js';
import { LABEL } from '../../src/tokens/pkcs11/token-keys.js';
import { KEK_HELPER, openSoftHsm, SOFTHSM, type SoftHsm, softHsmIsHere } from '../support/softhsm.js';

const recipient = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'der', type: 'spki' });
const PASSING = { token: false, private: true, sensitive: true } as const;
const code = (expected: string) => expect.objectContaining({ code: expected });

const newPair = (hsm: Hsm): StoredPair => ({ ...hsm.generatePair({ suite: 'rsa', bits: 2048 }), kind: { suite: 'rsa', bits: 2048 } });

function logIn(soft: SoftHsm): TokenSession {
  const session = soft.module.openSession(soft.label);
  session.login(soft.pin);
  return session;
}

const findKek = (session: TokenSession): Handle => session.find({ ...KEY.aes, label: LABEL.kek('1') })[0] as Handle; // the ceremony made it

const describeSoftHsm = softHsmIsHere() ? describe : describe.skip;
let soft: SoftHsm;

describeSoftHsm('the key-encryption key', () => {
  let hsm: Pkcs11Hsm;
  let session: TokenSession;
  let pair: StoredPair;

  const open = (unwrapTemplate: boolean) => {
    soft = openSoftHsm({ unwrapTemplate });
    hsm = soft.open();
    session = logIn(soft);
    pair = newPair(hsm);
  };
  afterEach(() => soft.remove());

  const readable = { ...KEY.rsaPrivate, ...PASSING, sensitive: false, extractable: true };
  const kwp = () => ({ number: soft.profile.mechanisms.kwp });

  test('unwraps nothing that could be read, though the PIN is right', () => {
    open(true);
    const kek = findKek(session);
    expect(() => session.unwrap(kwp(), kek, pair.wrapped, readable)).toThrow(/CKR_TEMPLATE_INCONSISTENT/);
    expect(() => session.unwrap(kwp(), kek, pair.wrapped, { ...readable, ...KEY.genericSecret })).toThrow(/CKR_TEMPLATE_INCONSISTENT/);
    expect(() => session.unwrap(kwp(), kek, pair.wrapped, { ...readable, sensitive: true, token: true })).toThrow(
      /CKR_TEMPLATE_INCONSISTENT/,
    );
  });

  test('with the guard off (no CKA_UNWRAP_TEMPLATE) the same calls give the whole private key away, and doctor says so', () => {
    open(false);
    const stolen = session.read(session.unwrap(kwp(), findKek(session), pair.wrapped, { ...readable, ...KEY.genericSecret }), 'value');
    const key = createPrivateKey({ key: stolen, format: 'der', type: 'pkcs8' });
    expect(createPublicKey(key).export({ format: 'der', type: 'spki' })).toEqual(pair.publicKey);
    expect(inspectToken(soft.module, soft)).toContainEqual(expect.objectContaining({ check: 'unwrap-template', verdict: 'warn' }));
    const promising = { ...soft, profile: { ...soft.profile, quirks: { ...soft.profile.quirks, unwrapTemplate: true } } };
    expect(inspectToken(soft.module, promising)).toContainEqual(expect.objectContaining({ check: 'unwrap-template', verdict: 'bad' }));
  });

  test('cannot be read, wrapped, changed into a decrypting key or copied into one', () => {
    open(true);
    const kek = findKek(session);
    expect(() => session.read(kek, 'value')).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
    expect(() => session.wrap(kwp(), kek, kek)).toThrow(/CKR_KEY_UNEXTRACTABLE/);
    // 0x1b: CKR_ACTION_PROHIBITED of PKCS#11 2.40
    expect(() => session.change(kek, { decrypt: true })).toThrow(/CKR_0x1b/);
    expect(() => session.copy(kek, { decrypt: true, token: false })).toThrow(/CKR_0x1b/);
    expect(() => session.decrypt({ number: 0x1081 }, kek, pair.wrapped.subarray(0, 16))).toThrow(/CKR_KEY_FUNCTION_NOT_PERMITTED/);
  });

  test('with that guard off (a KEK left modifiable) who holds the PIN turns decryption on', () => {
    open(true);
    const lax = { ...KEY.aes, ...PASSING, extractable: false, valueLength: 32, wrap: true, unwrap: true, decrypt: false };
    const kek = session.generateKey({ number: soft.profile.mechanisms.aesKeyGen }, lax);
    session.change(kek, { decrypt: true });
    expect(session.decrypt({ number: 0x1081 }, kek, randomBytes(16))).toHaveLength(16);
  });

  test('shows in pkcs11-tool as sensitive, never extractable, wrap and unwrap only, and so do no other keys', () => {
    open(true);
    const listing = execFileSync(
      'pkcs11-tool',
      ['--module', SOFTHSM, '--token-label', soft.label, '--login', '--pin', 'env:EKMS_TEST_PIN', '-O'],
      {
        env: { ...process.env, SOFTHSM2_CONF: soft.configuration, EKMS_TEST_PIN: soft.pin },
        encoding: 'utf8',
        stdio: 'pipe',
      },
    );
    const objects = listing.split(/^(?=\w[\w ]+;|\w+ Key Object)/m);
    const kek = objects.find((object) => object.includes(`label:      ${LABEL.kek('1')}`));
    expect(kek).toMatch(/AES length 32/);
    expect(kek).toMatch(/Usage: +wrap, unwrap$/m);
    expect(kek).toMatch(/Access: +sensitive, always sensitive, never extractable, local$/m);
    const secret = objects.filter((object) => /^(Secret|Private) Key Object/.test(object));
    expect(secret).toHaveLength(10);
    for (const object of secret) expect(object).toMatch(/sensitive, always sensitive, never extractable, local/);
  });
});

describeSoftHsm('a session', () => {
  beforeAll(() => {
    soft = openSoftHsm();
  });
  afterAll(() => soft.remove());

  test('leaves no object behind, whether a release works or fails', () => {
    const hsm = soft.open();
    const session = logIn(soft);
    const pair = newPair(hsm);
    const before = session.find({}).length;
    hsm.rewrap(pair, recipient);
    hsm.transport(pair, 'rsa-pkcs1', randomBytes(256), 32, recipient);
    hsm.transport(pair, 'rsa-oaep-sha1', randomBytes(256), 16, recipient);
    hsm.checkCanary();
    selfTest(hsm);
    expect(() => hsm.rewrap({ ...pair, wrapped: randomBytes(1224) }, recipient)).toThrow();
    expect(() => hsm.rewrap({ ...pair, publicKey: recipient }, recipient)).toThrow();
    expect(() => hsm.rewrap(pair, Buffer.from('no key'))).toThrow();
    expect(() => hsm.transport(pair, 'rsa-oaep-sha256', randomBytes(256), 32, recipient)).toThrow(code('mechanism-missing'));
    expect(session.find({})).toHaveLength(before);
    session.close();
    hsm.close();
  });

  test('private values of an unwrapped key cannot be read', () => {
    const session = logIn(soft);
    const hsm = soft.open();
    const { wrapped } = newPair(hsm);
    const template = { ...KEY.rsaPrivate, ...PASSING, extractable: true };
    const key = session.unwrap({ number: soft.profile.mechanisms.kwp }, findKek(session), wrapped, template);
    expect(() => session.read(key, 'privateExponent')).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
    expect(() => session.change(key, { sensitive: false })).toThrow(/CKR_ATTRIBUTE_READ_ONLY/);
    session.close();
  });

  test('doctor finds nothing bad, and says what it cannot help', () => {
    const findings = inspectToken(soft.module, soft, soft.pin);
    expect(findings.filter(({ verdict }) => verdict === 'bad')).toEqual([]);
    const verdict = Object.fromEntries(findings.map((finding) => [finding.check, finding.verdict]));
    expect(verdict).toMatchObject({
      kek: 'good',
      'unwrap-template': 'good',
      'foreign-wrapping-key': 'warn',
      'key-values': 'good',
      oaep: 'good',
      software: 'warn',
    });
  });

  test('a self-test that finds another mechanism behind a number names it', () => {
    const profile = { ...soft.profile, mechanisms: { ...soft.profile.mechanisms, kwp: 0x2109 } };
    const hsm = new Pkcs11Hsm(soft.module, { ...soft, profile }, soft.pin);
    expect(() => selfTest(hsm)).toThrow(code('mechanism-missing'));
    const noKwp = { ...soft.profile, mechanisms: { ...soft.profile.mechanisms, kwp: 0x210b } };
    expect(() => selfTest(new Pkcs11Hsm(soft.module, { ...soft, profile: noKwp }, soft.pin))).toThrow(
      /making and wrapping.*CKR_MECHANISM_INVALID/,
    );
  });

  test('a wrong module path, a file that is no module and an unknown token are told apart', () => {
    expect(() => new Pkcs11Module('/usr/lib/no-such-module.so')).toThrow(code('module-missing'));
    expect(() => new Pkcs11Module('/usr')).toThrow(code('module-missing'));
    expect(() => new Pkcs11Module(KEK_HELPER)).toThrow(code('module-missing'));
    expect(() => new Pkcs11Hsm(soft.module, { ...soft, label: 'nobody' }, soft.pin)).toThrow(code('token-missing'));
  });
});

describeSoftHsm('a token that goes away', () => {
  let hsm: Pkcs11Hsm;
  let pair: StoredPair;

  beforeAll(() => {
    soft = openSoftHsm();
    hsm = soft.open();
    pair = newPair(hsm);
  });
  afterAll(() => soft.remove());

  test('is called down, not corrupt, by every verb; once back it needs finalise and initialise, and then all is as before', () => {
    const sealed = hsm.seal(Buffer.from('half'), 'enrolment');
    soft.hide();
    const down = code('token-down');
    expect(() => hsm.checkCanary()).toThrow(down);
    expect(() => hsm.rewrap(pair, recipient)).toThrow(down);
    expect(() => hsm.transport(pair, 'rsa-pkcs1', randomBytes(256), 32, recipient)).toThrow(down);
    expect(() => hsm.generatePair({ suite: 'rsa', bits: 2048 })).toThrow(down);
    expect(() => hsm.open(sealed, 'enrolment')).toThrow(down);
    expect(() => hsm.mac(Buffer.from('record'))).toThrow(down);
    expect(() => hsm.sign('delivery', Buffer.from('delivery'))).toThrow(down);
    hsm.close();

    soft.module.finalise();
    expect(() => soft.module.initialise()).toThrow(down);
    soft.unhide();
    soft.module.initialise();
    hsm = soft.open();
    hsm.checkCanary();
    hsm.rewrap(pair, recipient);
    expect(hsm.open(sealed, 'enrolment').toString()).toBe('half');
  });

  test('and so is one whose KEK was deleted', () => {
    const session = logIn(soft);
    session.destroy(findKek(session));
    expect(() => hsm.rewrap(pair, recipient)).toThrow(code('token-down'));
    soft.module.finalise();
    soft.module.initialise();
    expect(() => soft.open()).toThrow(code('kek-missing'));
  });
});

describeSoftHsm('the PIN', () => {
  beforeAll(() => {
    soft = openSoftHsm();
  });
  afterAll(() => soft.remove());

  test('when wrong is refused after one try; doctor sees that; the right one still works', () => {
    const label = soft.label;
    expect(() => new Pkcs11Hsm(soft.module, soft, 'another PIN')).toThrow(code('pin-refused'));
    expect(soft.module.tokenInfo(label)).toMatchObject({ pinCountLow: true, pinLocked: false });
    soft.open().checkCanary();
    // Logged in now, the process does not look at a PIN any more: a second session needs none.
    new Pkcs11Hsm(soft.module, soft).checkCanary();
  });
});

describeSoftHsm('the ceremony', () => {
  let folder: string;
  beforeAll(() => {
    soft = openSoftHsm();
    folder = mkdtempSync(join(tmpdir(), 'ekms-ceremony-'));
  });
  afterAll(() => {
    soft.remove();
    rmSync(folder, { recursive: true });
  });
  const ceremony = (label: string) => ({
    module: soft.module,
    label,
    profile: soft.profile,
    kekHelper: KEK_HELPER,
    authorities: 'p384' as const,
  });

  test('leaves an existing token of that label alone', () => {
    expect(() => initialiseToken(ceremony(soft.label), 'a PIN', 'an SO PIN')).toThrow(/already/);
    soft.open().checkCanary();
  });

  test('says what to delete when it fails midway', () => {
    const broken = { ...ceremony('half'), kekHelper: '/no/such/helper' };
    expect(() => initialiseToken(broken, 'a PIN', 'an SO PIN')).toThrow(/no\/such\/helper.*token labelled half is half made: delete it/);
    expect(() => initialiseToken(ceremony('half'), 'a PIN', 'an SO PIN')).toThrow(code('token-missing'));
  });

  test('gives the helper its PIN on standard input, and no PIN on any command line', () => {
    const spy = join(folder, 'helper');
    writeFileSync(spy, `#!/bin/sh\nprintf '%s\\n' "$@" > ${folder}/arguments\nenv > ${folder}/environment\nexec ${KEK_HELPER} "$@"\n`);
    chmodSync(spy, 0o700);
    const { canary } = initialiseToken({ ...ceremony('spied'), kekHelper: spy }, 'secret user PIN', 'secret SO PIN');
    expect(readFileSync(join(folder, 'arguments'), 'utf8')).toBe(`${SOFTHSM}\nspied\nekms/kek/1\n`);
    expect(readFileSync(join(folder, 'environment'), 'utf8')).not.toMatch(/secret/);
    new Pkcs11Hsm(soft.module, { label: 'spied', profile: soft.profile, canary }, 'secret user PIN').checkCanary();
  });

  test('its helper refuses a wrong PIN and a second KEK with a sentence, and no PIN in it', () => {
    const run = (pin: string, kek: string) => () =>
      execFileSync(KEK_HELPER, [SOFTHSM, soft.label, kek], { input: pin, env: { SOFTHSM2_CONF: soft.configuration }, stdio: 'pipe' });
    expect(run('wrong PIN', LABEL.kek('2'))).toThrow(
      expect.objectContaining({ status: 5, message: expect.not.stringContaining('wrong PIN') }),
    );
    expect(run(soft.pin, LABEL.kek('1'))).toThrow(expect.objectContaining({ status: 6 }));
    expect(run('', LABEL.kek('2'))).toThrow(expect.objectContaining({ status: 2 }));
  });

  test('a second KEK becomes the active one; pairs and the canary of the first still open', () => {
    const old = newPair(soft.open());
    execFileSync(KEK_HELPER, [SOFTHSM, soft.label, LABEL.kek('2')], { input: soft.pin, env: { SOFTHSM2_CONF: soft.configuration } });
    const hsm = soft.open();
    expect([old.kek, hsm.activeKek]).toEqual(['1', '2']);
    hsm.checkCanary();
    hsm.rewrap(old, recipient);
    expect(newPair(hsm).kek).toBe('2');
  });

  test('a second key of the same label is noticed, not used', () => {
    const session = logIn(soft);
    const twin = { ...KEY.aes, token: true, private: true, sensitive: true, extractable: false, valueLength: 32, label: LABEL.seal };
    const planted = session.generateKey({ number: soft.profile.mechanisms.aesKeyGen }, twin);
    expect(() => soft.open()).toThrow(/two keys labelled ekms\/seal/);
    session.destroy(planted);
    soft.open().checkCanary();
  });

  test('makes RSA-4096 authorities where they are asked for', () => {
    const { canary } = initialiseToken({ ...ceremony('rsa'), authorities: 'rsa4096' }, 'a PIN', 'an SO PIN');
    const hsm = new Pkcs11Hsm(soft.module, { label: 'rsa', profile: soft.profile, canary }, 'a PIN');
    expect([hsm.algorithm('root'), hsm.algorithm('delivery'), hsm.algorithm('audit')]).toEqual([
      'rsa-pkcs1-sha384',
      'ecdsa-p256-sha256',
      'ed25519',
    ]);
    const message = randomBytes(100);
    const key = createPublicKey({ key: hsm.publicKey('root'), format: 'der', type: 'spki' });
    expect(verify('sha384', message, key, hsm.sign('root', message))).toBe(true);
    expect(key.asymmetricKeyDetails?.modulusLength).toBe(4096);
  }, 120_000);
});
