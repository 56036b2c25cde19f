// What lies outside: a resolver that answers every name with 203.0.113.9, and a port that takes connections (test/e2e/namespaces.spec.ts).
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';

const [address = '', port = '0'] = process.argv.slice(2);
const resolver = createSocket('udp4').on('message', (ask, { address: to, port: at }) => {
  const question = ask.subarray(12, ask.indexOf(0, 12) + 5);
  const isA = question.readUInt16BE(question.length - 4) === 1;
  const head = Buffer.concat([ask.subarray(0, 2), Buffer.from([0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0])]);
  const answer = isA ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 9]) : Buffer.alloc(0);
  resolver.send(Buffer.concat([head, question, answer]), at, to);
});
resolver.bind(53, address, () => createServer(() => undefined).listen(Number(port), address, () => console.log('ready')));
