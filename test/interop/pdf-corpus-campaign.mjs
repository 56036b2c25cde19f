// Encrypts the documents that packages bring, and lets PDFBox and qpdf judge. `--seed S --count N`; ends with exit status 0 only if at least 99 of
// 100 that qpdf reads are encrypted, the same to PDFBox, and the same again when they are decrypted.
import '../support/typescript.mjs';

const { main } = await import('./pdf-corpus.ts');
await main();
