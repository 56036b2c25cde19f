// Kills the appliance at named steps under load, starts it again and looks for what was lost. `--seed S --count N [--only STEP] [--without-reconcile]`;
// with EKMS_TEST_POSTGRES, every fifth run is on PostgreSQL. Ends with one line of JSON and exit status 0 only if every promise was kept.
import '../support/typescript.mjs';

await import('./crash-campaign.ts');
