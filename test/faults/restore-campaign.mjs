// Burns the home of an appliance with custodians and restores it from a backup and two of three shares, alone, with a remembered head, with a head and
// the log's tail, with the second place; and asks for all that must be refused. `--seed S --count N`.
import { parseArgs } from 'node:util';
import '../support/typescript.mjs';

const { campaign } = await import('./custody-campaign.ts');
const { values } = parseArgs({ options: { seed: { type: 'string', default: '1' }, count: { type: 'string', default: '100' } } });
await campaign({ seed: Number(values.seed), restores: Number(values.count) });
