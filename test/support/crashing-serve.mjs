// An appliance that dies at a planned step: the real one, with its token, database and mail behind traps. It loads everything first and then
// waits for one line of JSON on stdin, `{home, mark, plan}`, so that a campaign need not wait for Node to start.
import './typescript.mjs';

await import('./crashing-serve.ts');
