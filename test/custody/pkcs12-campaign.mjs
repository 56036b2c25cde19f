// Imports every PKCS#12 file of the Debian package python3-cryptography-vectors (fetched once), of this machine and of node_modules, and tells what became
// of each. `--seed S --count N`; ends with exit status 0 only if each was imported or refused by name.
import '../support/typescript.mjs';

const { main } = await import('./pkcs12-campaign.ts');
await main();
