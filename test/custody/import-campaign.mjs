// Imports a folder of `--count N` PKCS#12 files into an appliance by the command line, kills the command in the middle and tells it again with its report; then
// they are counted: each key is there once. Ends with one line of JSON: rates and the command's memory. Exit status 0 only if nothing is lost or doubled.
import { deliveryKeys } from '../../bench/support/home.mjs';
import '../support/typescript.mjs';

const { main } = await import('./import-campaign.ts');
await main(deliveryKeys);
