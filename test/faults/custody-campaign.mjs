// Kills an appliance with custodians between two steps that change its disk, in birth, backup, rotation, ceremony and restore, tells it again
// and looks for what was lost, doubled or left without an owner. `--seed S --count N [--only ACT] [--at STEP]`. Ends with one line of JSON.
import '../support/typescript.mjs';

await import('./custody-campaign.ts');
