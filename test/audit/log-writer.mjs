// A node that writes to the log with 64 writers until it is killed: the real writer, log and checkpoints over a real database and a real token process.
// It loads everything first and then waits for one line of JSON on stdin, `{url, home, socket, node}`. Each act that it was told is durable is a line on stdout.
import '../support/typescript.mjs';

await import('./log-writer.ts');
