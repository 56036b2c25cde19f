// Takes guards of reissue and migration away, one at a time, and looks whether what they are for comes about; with the guard on it must not.
// `--seed S --count N`: the first N of them.
import { parseArgs } from 'node:util';
import '../support/typescript.mjs';

const { campaign } = await import('./custody-campaign.ts');
const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '10' } } });
await campaign({ seed: Number(values.seed), guards: Number(values.count) });
