import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { newAgeIdentity } from '../../src/codec/age.js';
import { type CeremonyPlan, ceremony, checkPlan, parseAgent, parseCustodian } from '../../src/commands/ceremony.js';
import { askCeremony } from '../../src/commands/ceremony-questions.js';
import { readShare } from '../../src/commands/restore-token.js';

let home: string;
let out: string;
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'ekms-ceremony-'));
  home = join(folder, 'home');
  out = join(folder, 'shares');
});
afterEach(() => rmSync(join(home, '..'), { recursive: true }));

const plan = (...who: string[]): CeremonyPlan => ({
  ...{ plan: checkPlan({ threshold: 2, custodians: who.map(parseCustodian) }), out, domains: ['corp.example'] },
  ...{ present: [], began: new Date().toISOString() },
});
/** No token program is there: each ceremony ends where its token would be made. */
const hold = (wanted: CeremonyPlan | undefined, said: string[] = []) => ceremony(home, wanted, { root: home }, (line) => said.push(line));
const planned = () => JSON.parse(readFileSync(join(home, 'ceremony.json'), 'utf8')) as CeremonyPlan;
const names = () => planned().plan.custodians.map(({ name }) => name);
const refused = (code: string) => expect.objectContaining({ code });

describe('a ceremony that was begun', () => {
  test('had other custodians and no token yet: those who are named now are who get shares', async () => {
    await expect(hold(plan('Eve=paper', 'Mallory=paper'))).rejects.toEqual(refused('token-init-failed'));
    writeFileSync(join(out, 'share-1-Eve.txt'), 'of a token that never was');
    const said: string[] = [];
    await expect(hold(plan('Ada=paper', 'Ben=paper'), said)).rejects.toEqual(refused('token-init-failed'));
    expect(names()).toEqual(['Ada', 'Ben']);
    expect(readdirSync(out)).toEqual([]);
    expect(said.join()).toContain('this one takes its place');
  });

  test('finds shares that were there before it: another medium, from which nothing is taken away', async () => {
    await expect(hold(plan('Ada=paper', 'Ben=paper'))).rejects.toEqual(refused('token-init-failed'));
    writeFileSync(join(out, 'share-1-Ada.txt'), 'of this one');
    writeFileSync(join(out, 'share-2-Zoe.txt'), 'of another appliance');
    utimesSync(join(out, 'share-2-Zoe.txt'), new Date(), new Date(Date.now() - 86_400_000));
    for (const again of [plan('Ada=paper', 'Ben=paper'), plan('Carl=paper', 'Ben=paper')])
      await expect(hold(again)).rejects.toEqual(refused('shares-folder'));
    expect(readdirSync(out)).toEqual(['share-1-Ada.txt', 'share-2-Zoe.txt']);
  });

  test('had other custodians and may have its token: nobody else is taken for one of them', async () => {
    await expect(hold(plan('Eve=paper', 'Mallory=paper'))).rejects.toEqual(refused('token-init-failed'));
    mkdirSync(join(home, 'token-state'));
    writeFileSync(join(out, 'share-1-Eve.txt'), 'of that token');
    await expect(hold(plan('Ada=paper', 'Ben=paper'))).rejects.toEqual(refused('ceremony-begun'));
    expect([names(), readdirSync(out)]).toEqual([['Eve', 'Mallory'], ['share-1-Eve.txt']]);
  });

  test('goes on without options, and with the same ones', async () => {
    await expect(hold(plan('Ada=paper', 'Ben=paper'))).rejects.toEqual(refused('token-init-failed'));
    const { began } = planned();
    await expect(hold(plan('Ada=paper', 'Ben=paper'))).rejects.toEqual(refused('token-init-failed'));
    await expect(hold(undefined)).rejects.toEqual(refused('token-init-failed'));
    expect(planned().began).toBe(began);
  });
});

describe('before anything is begun', () => {
  const begun = () => existsSync(join(home, 'ceremony.json'));

  test('the mail domain, and each setting of ekms.yaml', async () => {
    await expect(hold({ ...plan('Ada=paper', 'Ben=paper'), domains: [] })).rejects.toEqual(refused('domain-missing'));
    await expect(hold({ ...plan('Ada=paper', 'Ben=paper'), domains: ['no domain'] })).rejects.toEqual(refused('configuration-invalid'));
    expect(readdirSync(home)).toEqual(['run']); // a wrong domain is not left behind either
    writeFileSync(join(home, 'ekms.yaml'), 'domains: [corp.example]\nnonsense: 1\n');
    await expect(hold(plan('Ada=paper', 'Ben=paper'))).rejects.toEqual(refused('configuration-invalid'));
    expect(begun()).toBe(false);
  });

  test('a folder for the shares whose medium is there and which is empty', async () => {
    const elsewhere = (folder: string) => hold({ ...plan('Ada=paper', 'Ben=paper'), out: folder });
    await expect(elsewhere(join(out, 'not-mounted', 'shares'))).rejects.toEqual(refused('shares-folder'));
    await expect(elsewhere('/proc/nowhere/shares')).rejects.toEqual(refused('shares-folder'));
    mkdirSync(out);
    writeFileSync(join(out, 'photo.jpg'), '');
    await expect(elsewhere(out)).rejects.toEqual(refused('shares-folder'));
    expect(begun()).toBe(false);
  });

  test('that each share can be sealed to its custodian, and nobody holds two', () => {
    const certificate = (...kind: string[]) => {
      const file = join(mkdtempSync(join(home, '..', 'card-')), 'card.pem');
      const words = ['req', '-x509', '-nodes', '-subj', '/CN=Ben', '-days', '2', '-keyout', '/dev/null', '-out', file, ...kind];
      execFileSync('openssl', words, { stdio: 'ignore' });
      return file;
    };
    const { recipient } = newAgeIdentity();
    const malformed = refused('custody-plan');
    expect(() => plan('Ada=paper', 'Ben=age1xyz')).toThrow(malformed);
    expect(() => plan('Ada=paper', `Ben=${recipient.slice(0, -1)}q`)).toThrow(malformed);
    expect(() => plan('Ada=paper', `Ben=${certificate('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256')}`)).toThrow(malformed);
    expect(() => plan(`Ada=${recipient}`, `Ben=${recipient}`)).toThrow(malformed);
    const card = certificate('-newkey', 'rsa:2048');
    expect(() => plan(`Ada=${card}`, `Ben=${card}`)).toThrow(malformed);
    expect(plan(`Ada=${recipient}`, `Ben=${card}`, 'Cleo=paper', 'Dora=paper').plan.custodians).toHaveLength(4);
  });

  test('that each recovery agent can sign', () => {
    mkdirSync(home);
    const written = (name: string, { publicKey }: { publicKey: { export(how: { format: 'pem'; type: 'spki' }): string | Buffer } }) => {
      writeFileSync(join(home, name), publicKey.export({ format: 'pem', type: 'spki' }));
      return `Mona=${join(home, name)}`;
    };
    expect(parseAgent(written('signs.pem', generateKeyPairSync('ed25519'))).name).toBe('Mona');
    expect(() => parseAgent(written('agrees.pem', generateKeyPairSync('x25519')))).toThrow(refused('custodian-malformed'));
    writeFileSync(join(home, 'mona.key'), generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }));
    expect(() => parseAgent(`Mona=${join(home, 'mona.key')}`)).toThrow(refused('custodian-malformed'));
  });
});

describe('asked at a terminal', () => {
  const nothing = { custodian: [], threshold: 2, recoveryAgent: [], recoveryQuorum: 2, present: [], domain: [] };
  /** Each answer once its question stands there. */
  async function answers(...given: string[]) {
    const input = new PassThrough();
    const output = new PassThrough();
    let said = '';
    output.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (!/[?\]] $/.test(text)) return;
      const next = given.shift();
      if (next === undefined) input.end();
      else setImmediate(() => input.write(`${next}\n`));
    });
    const told = await askCeremony(nothing, false, { input, output }).catch((error: unknown) => error);
    return { told, said };
  }

  test('a wrong answer is asked for again; all is read back before it is made', async () => {
    mkdirSync(home);
    const keys = ['mona', 'nils'].map((name) => {
      const file = join(home, `${name}.pem`);
      writeFileSync(file, generateKeyPairSync('ed25519').publicKey.export({ format: 'pem', type: 'spki' }));
      return file;
    });
    const { told, said } = await answers(
      ...['corp.example', 'ekms.corp.example', 'many', '2', '3', '2'], // how many, and how many are needed
      ...['Ada', '/nowhere.pem', '', 'Ada', 'Ben', '', out],
      ...['2', 'Mona', keys[0] ?? '', 'Nils', keys[0] ?? '', keys[1] ?? '', '', 'Zoe, Yan', 'yes'],
    );
    expect(told).toMatchObject({
      ...{ custodian: ['Ada=paper', 'Ben=paper'], threshold: 2, shares: out, domain: ['corp.example'], publicName: 'ekms.corp.example' },
      ...{ recoveryAgent: [`Mona=${keys[0]}`, `Nils=${keys[1]}`], recoveryQuorum: 2, present: ['Zoe', 'Yan'] },
    });
    expect(said).toContain('2 of these custodians bring the keys back: Ada (printed); Ben (printed)');
  });

  const enough = ['corp.example', 'ekms.corp.example', '2', '2', 'Ada', '', 'Ben', '', '/media/shares', '0', ''];
  test.each([
    ['by whoever does not agree', [...enough, 'n']],
    ['by a mere Enter', [...enough, '']],
    ['by the end of the terminal', enough.slice(0, 5)],
  ])('nothing is made when it is left %s', async (_, given) => {
    expect((await answers(...given)).told).toEqual(refused('ceremony-not-held'));
  });
});

test('a file that holds no share, or a damaged one, is named before anything is begun', () => {
  mkdirSync(home);
  const file = join(home, 'b');
  for (const [text, code] of [
    ['hello', 'share-malformed'],
    ['EKMS-SHARE-1:FR4R-XSPI', 'share-damaged'],
  ] as const) {
    writeFileSync(file, text);
    expect(() => readShare(file)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(file) }));
  }
});
