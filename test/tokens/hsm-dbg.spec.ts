import { generateKeyPairSync, randomBytes, publicEncrypt, createPublicKey, constants } from 'node:crypto';
import { test } from '@jest/globals';
import { openSoftHsm } from '../support/softhsm.js';
test('x', () => {
  const soft = openSoftHsm(); const hsm = soft.open();
  const device = generateKeyPairSync('rsa', { modulusLength: 3072 });
  const recipient = device.publicKey.export({ format: 'der', type: 'spki' });
  const pair = { ...hsm.generatePair({ suite: 'rsa', bits: 2048 }), kind: { suite: 'rsa' as const, bits: 2048 } };
  const pub = createPublicKey({key: pair.publicKey, format:'der', type:'spki'});
  const p1 = (k: Buffer) => publicEncrypt({key: pub, padding: constants.RSA_PKCS1_PADDING}, k);
  const oa = (k: Buffer) => publicEncrypt({key: pub, padding: constants.RSA_PKCS1_OAEP_PADDING}, k);
  const bad = () => Buffer.concat([Buffer.alloc(1), randomBytes(255)]);
  const cases: [string, () => [any, Buffer]][] = [
    ['p1 good', () => ['rsa-pkcs1', p1(randomBytes(32))]], ['p1 bad', () => ['rsa-pkcs1', bad()]], ['p1 wrong length', () => ['rsa-pkcs1', p1(randomBytes(16))]], ['p1 wrong length 20', () => ['rsa-pkcs1', p1(randomBytes(20))]],
    ['oaep good', () => ['rsa-oaep-sha1', oa(randomBytes(32))]], ['oaep bad', () => ['rsa-oaep-sha1', bad()]], ['oaep wrong length', () => ['rsa-oaep-sha1', oa(randomBytes(16))]],
  ];
  const times = new Map(cases.map(([n]) => [n, [] as number[]]));
  for (let i = 0; i < 700; i++) for (const [n, f] of cases) { const [s, e] = f(); const t = performance.now(); hsm.transport(pair, s, e, 32, recipient); times.get(n)!.push(performance.now() - t); }
  console.log([...times].map(([n, t]) => { t.sort((a, b) => a - b); return `${n}: p10 ${t[70]!.toFixed(4)} median ${t[350]!.toFixed(4)}`; }).join('\n'));
  soft.remove();
}, 100000);
