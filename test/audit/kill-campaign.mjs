// Kills the log's writer (kill -9) under 64 writers, `--count N` times, and looks after each whether the log holds: each acknowledged act has its entry, none
// twice, nothing half done, and the token signs on. On SQLite, and where EKMS_TEST_POSTGRES names a throw-away cluster as often again with two nodes on
// PostgreSQL, of which one goes on when the other is killed, and is killed then. `--seed S` repeats a run. Ends with a line of JSON for each database, and exit
// status 0 only if every promise was kept.
import '../support/typescript.mjs';

await import('./kill-campaign.ts');
