// Connects as told on standard input and says what came of it: run inside a network namespace (test/e2e/namespaces.spec.ts).
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

/** Milliseconds until a connection that nobody answers counts as refused. */
const PATIENCE = Number(process.argv[2] ?? 500);

function probe({ from, host, port, tls, header }) {
  return new Promise((resolve) => {
    const socket = connect({ host, port, ...(from ? { localAddress: from } : {}) });
    const end = (is) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(is);
    };
    const timer = setTimeout(() => end('refused'), PATIENCE);
    socket.on('error', () => end('refused')).on('close', () => end('refused'));
    socket.once('connect', () => {
      if (header) socket.write(Buffer.from(header, 'hex'));
      if (!tls) {
        socket.once('data', () => end('open'));
        socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
        return;
      }
      const secure = connectTls({ socket, servername: 'localhost', rejectUnauthorized: false });
      secure.on('error', () => end('refused')).once('secureConnect', () => end('open'));
    });
  });
}

let text = '';
for await (const piece of process.stdin) text += piece;
console.log(JSON.stringify(await Promise.all(JSON.parse(text).map(probe))));
process.exit(0);
