// Kills the log's writer (kill -9) under 64 writers, `--count N` times, and looks after each whether the log holds: each acknowledged act has its entry, none
// twice, nothing half done, and the token signs on. `--seed S` repeats a run; with EKMS_TEST_POSTGRES, `--nodes 2` has two nodes on PostgreSQL of which one is
// killed first. Ends with one line of JSON and exit status 0 only if every promise was kept.
import '../support/typescript.mjs';

await import('./kill-campaign.ts');
