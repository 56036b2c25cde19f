// Tampers with made-up logs in twelve ways, `--count N` of each, and verifies as many clean ones. `--seed S` repeats a run. Ends with one line of
// JSON and exit status 0 only if every tampering was found at its first bad entry and no clean log raised an alarm.
import '../support/typescript.mjs';

await import('./tamper-campaign.ts');
