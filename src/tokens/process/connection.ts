import { connect, type Socket } from 'node:net';
import { answerHead, decodeBody, encodeBody, encodeFrame, type Frame, FrameReader } from './frames.js';
import { socketName } from './socket-path.js';
import { faultOf, unavailable } from './token-faults.js';

interface Pending {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout;
}

/** One connection to a token process: many calls at once, told apart by number. When it ends, every call that waits fails at once. */
export class TokenConnection {
  private readonly reader = new FrameReader();
  private readonly pending = new Map<number, Pending>();
  private nextId = 0;
  readonly closed: Promise<void>;

  private constructor(private readonly socket: Socket) {
    this.closed = new Promise((resolve) => socket.once('close', () => resolve(this.fail())));
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const frame of this.reader.push(chunk)) this.take(frame);
      } catch {
        socket.destroy();
      }
    });
  }

  static open(path: string): Promise<TokenConnection> {
    return new Promise((resolve, reject) => {
      const { name, release } = socketName(path);
      const socket = connect(name);
      socket.once('error', () => reject(unavailable('no token process answers')));
      socket.once('connect', () => resolve(new TokenConnection(socket)));
      socket.once('connect', release).once('error', release);
    });
  }

  call(op: string, args: unknown, limitMs: number): Promise<unknown> {
    const id = this.nextId++;
    const frame = encodeFrame({ id, op }, encodeBody(args));
    return new Promise((resolve, reject) => {
      const late = () => {
        this.pending.delete(id);
        reject(unavailable('the token process did not answer in time'));
      };
      this.pending.set(id, { resolve, reject, timer: setTimeout(late, limitMs) });
      this.socket.write(frame);
    });
  }

  close(): void {
    this.socket.destroy();
  }

  /** Throws on a frame that is no answer; one that comes too late is nobody's. */
  private take(frame: Frame): void {
    const { id, fault } = answerHead.parse(JSON.parse(frame.head));
    const call = this.pending.get(id);
    if (!call) return;
    const value = fault ? undefined : decodeBody(frame.body);
    this.pending.delete(id);
    clearTimeout(call.timer);
    if (fault) call.reject(faultOf(fault));
    else call.resolve(value);
  }

  private fail(): void {
    for (const call of this.pending.values()) {
      clearTimeout(call.timer);
      call.reject(unavailable('the token process went away; it is being started again'));
    }
    this.pending.clear();
  }
}
