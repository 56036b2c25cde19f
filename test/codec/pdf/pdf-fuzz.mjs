// Bends documents and encrypts or decrypts them. `--seed S --count N`; ends with exit status 0 only if each was refused by name or rewritten, within a second.
import '../../support/typescript.mjs';

const { main } = await import('./fuzz-campaign.ts');
await main();
