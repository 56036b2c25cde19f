import { randomBytes } from 'node:crypto';
import { compat, modern, pkcs12 } from '../../../src/codec/pkcs12/index.js';
import { Fault } from '../../../src/foundation/index.js';
import { heldKey } from '../keys/index.js';
import { deviceOf, firstLine } from '../store/index.js';
import { writeOutput } from './output.js';
import { openStore, type StoreOptions, type Terminal } from './session.js';

export interface ExportOptions extends StoreOptions {
  key: string;
  p12: string;
  profile: 'modern' | 'compat';
  p12PassphraseFile?: string;
}

export async function exportKey(terminal: Terminal, options: ExportOptions): Promise<number> {
  const store = await openStore(terminal, options);
  const state = await store.read();
  const { root } = deviceOf(state);
  const kept = state.keys.find((key) => key.id === options.key);
  if (!kept) throw new Fault('not-found', 'key-unknown', `this device holds no key ${options.key}: "mesign keys" lists them`);
  const { privateKey, leaves, authorities } = heldKey(kept);
  if (!privateKey) throw new Fault('conflict', 'key-remote', `key ${options.key} stays in the appliance and cannot be exported`);
  const phrase = options.p12PassphraseFile === undefined ? newPhrase() : await firstLine(options.p12PassphraseFile, 'PKCS#12 pass phrase');
  const chain = [...authorities.filter((authority) => !authority.der.equals(root.der)), root];
  const protection = options.profile === 'modern' ? modern(phrase) : compat(phrase);
  await writeOutput(options.p12, pkcs12({ name: state.address, privateKey, leaves, authorities: chain }, protection));
  if (options.profile === 'compat')
    terminal.say(
      'warning: the profile "compat" encrypts by 3DES (PBE-SHA1-3DES) for old readers such as gpgsm 2.2. Use it only to carry the key to such a reader, with a long pass phrase, and delete the file afterwards.',
    );
  if (options.p12PassphraseFile === undefined) {
    terminal.say('the pass phrase of the file, shown this once:');
    terminal.print(`${phrase}\n`);
  }
  return 0;
}

/** 130 random bits in letters and digits that are not mistaken for one another. */
function newPhrase(): string {
  const alphabet = 'abcdefghjkmnpqrstuvwxyz023456789';
  const letters = [...randomBytes(26)].map((octet) => alphabet[octet & 31]).join('');
  return letters.replace(/(.{5})(?=.)/g, '$1-');
}
