// Imports a folder of `--count N` PKCS#12 files into an appliance by the command line; the command, the token process and the appliance are killed, one after
// another, `--kills K` times at lengths of the way that `--seed S` draws, and the command is told again with its report. Then every key is there once, for whom
// it is, and opens. Ends with one line of JSON: rate, processor time and memory by process. Exit status 0 only if nothing is lost or doubled and no memory grew.
import { distinctKeys } from '../../bench/support/home.mjs';
import '../support/typescript.mjs';

const { main } = await import('./import-campaign.ts');
await main(distinctKeys);
