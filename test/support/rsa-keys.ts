import { createPrivateKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';

/** Emptied before each whole run. */
const FOLDER = resolve('.setup/rsa-keys');
const newPair = promisify(generateKeyPair);
let taken = 0;

/**
 * A key that nobody else of this test file has. An RSA key of 3072 bits is 0.2 s of CPU and hundreds are needed, of which it matters only that those who meet
 * have different ones: so the nth key of one file is the nth of every other, made by whoever needs it first.
 */
export async function rsaKey(bits: number): Promise<KeyObject> {
  const path = `${FOLDER}/${bits}-${taken++}.pem`;
  try {
    return createPrivateKey(readFileSync(path));
  } catch {
    const { privateKey } = await newPair('rsa', { modulusLength: bits });
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(`${path}.${process.pid}`, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
    renameSync(`${path}.${process.pid}`, path); // another file's tests run beside these
    return privateKey;
  }
}
