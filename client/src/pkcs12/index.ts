/** PKCS#12 files (RFC 7292) for other mail programs. Written by hand: a library either knows PBES2 or the old form, here one writer does both. */
export { type Identity, pkcs12 } from './file.js';
export { compat, modern, type Protection } from './protect.js';
