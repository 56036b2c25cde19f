/** PKCS#12 files (RFC 7292): written for other mail programs, read on import. By hand: a library either knows PBES2 or the old forms, here both are. Pure. */
export { derive, PURPOSE } from './derive.js';
export { compat, modern, type Protection } from './protect.js';
export { type Pkcs12Content, readPkcs12 } from './read.js';
export { type Identity, pkcs12 } from './write.js';
