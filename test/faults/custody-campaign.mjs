// Kills an appliance with custodians between two steps that change its disk, in birth, backup, rotation, import, ceremony and restore, tells it again
// and looks for what was lost, doubled or left without an owner. `--seed S --count N [--only ACT] [--at STEP] [--without-second-telling]
// [--short [--restores N] [--by-copy]] [--guards-off N]`: so many guards of reissue and migration are taken away, one at a time.
import { parseArgs } from 'node:util';
import '../support/typescript.mjs';

const { campaign } = await import('./custody-campaign.ts');
const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '50' },
    restores: { type: 'string', default: '0' },
    only: { type: 'string' },
    at: { type: 'string' },
    short: { type: 'boolean', default: false },
    'guards-off': { type: 'string', default: '0' },
    'without-second-telling': { type: 'boolean', default: false },
    'by-copy': { type: 'boolean', default: false },
  },
});
await campaign({
  seed: Number(values.seed),
  kills: Number(values.count),
  restores: Number(values.restores),
  only: values.only,
  at: values.at === undefined ? undefined : Number(values.at),
  short: values.short,
  guards: Number(values['guards-off']),
  withoutSecondTelling: values['without-second-telling'],
  byCopy: values['by-copy'],
});
