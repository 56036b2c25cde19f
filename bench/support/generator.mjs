// A process of its own that asks over kept-alive mutual-TLS connections, one per device. Written on the bare socket, so that it takes as
// little as it can of the cores that it shares with what it measures. Orders and answers go over the channel of child_process.fork.

import { cpuUsage } from 'node:process';
import { connect } from 'node:tls';

let connections = [];
let request = Buffer.alloc(0);

process.on('message', (order) => {
  const answer = order.do === 'connect' ? connectAll(order) : order.do === 'run' ? run(order) : end();
  answer.then(
    (value) => process.send({ value }),
    (error) => process.send({ error: error.stack }),
  );
});

async function connectAll({ port, path, ca, devices }) {
  request = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`);
  connections = [];
  for (const { certificates, identity } of devices)
    connections.push(
      await opened({
        host: '127.0.0.1',
        port,
        servername: 'localhost',
        ca,
        cert: certificates.join(''),
        key: identity,
        minVersion: 'TLSv1.3',
      }),
    );
  return connections.length;
}

const opened = (options) =>
  new Promise((resolve, reject) => {
    const socket = connect(options, () => resolve(new Connection(socket, options)));
    socket.once('error', reject);
  });

async function end() {
  for (const { socket } of connections) socket.destroy();
  connections = [];
}

/**
 * `clients` requests at a time, each on the next connection: for `seconds`, or so many `replies`, or, without either, once per connection.
 * `isNew`: each by the next device all the same, on a connection made for it.
 */
async function run({ clients, seconds, replies, isNew }) {
  const idle = [...connections];
  // Kept ones would be told meanwhile that they idle.
  if (isNew) for (const connection of connections) connection.end();
  let begun = 0;
  const latencies = [];
  const statuses = {};
  let bytes = 0;
  const cpu = cpuUsage();
  const start = performance.now();
  const until = seconds ? start + seconds * 1000 : Number.POSITIVE_INFINITY;
  const most = seconds ? Number.POSITIVE_INFINITY : (replies ?? connections.length);
  const client = async () => {
    while (performance.now() < until && begun < most) {
      begun++;
      let connection = idle.shift();
      if (!isNew && connection.socket.destroyed) connection = await anew(connection);
      const sent = performance.now();
      const asked = isNew ? await opened(connection.options) : connection;
      const reply = await asked.ask();
      if (isNew) asked.end();
      latencies.push(performance.now() - sent);
      statuses[reply.status] = (statuses[reply.status] ?? 0) + 1;
      bytes += reply.length;
      idle.push(connection);
    }
  };
  await Promise.all(Array.from({ length: Math.min(clients, connections.length) }, client));
  const took = (performance.now() - start) / 1000;
  const { user, system } = cpuUsage(cpu);
  return {
    count: latencies.length,
    rate: latencies.length / took,
    took,
    latencies,
    statuses,
    bytes: bytes / latencies.length,
    cpu: (user + system) / 1e6,
  };
}

/** For one that the server has ended, since nobody used it for long. */
async function anew(ended) {
  const connection = await opened(ended.options);
  connections[connections.indexOf(ended)] = connection;
  return connection;
}

class Connection {
  #chunks = [];
  #held = 0;
  #whole = 0;
  #head;
  #resolve;
  #reject;

  constructor(socket, options) {
    this.socket = socket;
    this.options = options;
    socket.setNoDelay();
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', (error) => this.#reject?.(error));
    socket.on('close', () => this.#reject?.(new Error('the server closed the connection')));
  }

  ask() {
    if (this.socket.destroyed) throw new Error('the server has closed the connection');
    this.socket.write(request);
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  end() {
    this.#reject = undefined;
    this.socket.destroy();
  }

  #take(chunk) {
    // Nobody asked: the server says that it ends this connection.
    if (!this.#resolve) return void this.socket.destroy();
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#whole === 0) {
      const bytes = Buffer.concat(this.#chunks);
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.#head = bytes.toString('latin1', 0, end);
      this.#whole = end + 4 + Number(/^content-length: (\d+)/im.exec(this.#head)?.[1] ?? 0);
    }
    if (this.#held < this.#whole) return;
    const reply = { status: Number(this.#head.slice(9, 12)), length: this.#whole };
    [this.#chunks, this.#held, this.#whole] = [[], 0, 0];
    const resolve = this.#resolve;
    this.#resolve = this.#reject = undefined;
    resolve(reply);
  }
}
