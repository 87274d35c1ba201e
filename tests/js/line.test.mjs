import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { Line } from '../../gateway/web/static/client/src/line.js';
import { Realtime } from '../../gateway/web/static/client/src/realtime.js';

const turns = async () => {
  for (let turn = 0; turn < 10; turn++) await undefined;
};

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1 });
  mock.method(Math, 'random', () => 0);
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

test('an answer that comes just after the line was made again does not make it impatient', async () => {
  const transports = [];
  const open = () => {
    transports.push({ sent: [], send(text) { this.sent.push(JSON.parse(text).type); }, close() {} });
    return transports.at(-1);
  };
  const line = new Line(open, {}, { state() {}, open() {}, message() {} });
  const says = (type) => transports.at(-1).onmessage(JSON.stringify({ type }));
  const connects = async () => {
    await turns();
    says('connected');
  };
  /** Milliseconds, in steps of a second, until it has left. */
  const leaves = () => {
    let seconds = 0;
    for (; line.state === 'open'; seconds++) mock.timers.tick(1_000);
    return seconds;
  };
  line.connect();
  await connects();
  assert.equal(leaves(), 35, 'a dead line is noticed within 35 s');
  mock.timers.tick(1);
  await connects();
  says('heartbeat');
  assert.equal(leaves(), 45, 'the next one may be slow');
  mock.timers.tick(1);
  await connects();
  for (let i = 0; i < 4; i++) {
    mock.timers.tick(20_000);
    says('heartbeat');
  }
  assert.equal(leaves(), 35, 'what has served for a minute is a good one');
  line.close({ reason: 'closed' });
});

test('a line on which messages come for a minute is a good one, and who looks waits three seconds on any', async () => {
  let transport;
  const open = () => (transport = { send() {}, close() {} });
  const line = new Line(open, {}, { state() {}, open() {}, message() {} });
  const says = (message) => transport.onmessage(JSON.stringify(message));
  /** Seconds until it has left. */
  const leaves = () => {
    let seconds = 0;
    for (; line.state === 'open'; seconds++) mock.timers.tick(1_000);
    mock.timers.tick(1);
    return seconds;
  };
  const connects = async () => {
    await turns();
    says({ type: 'connected' });
  };
  line.connect();
  await connects();
  leaves();
  await connects();
  line.wake();
  assert.equal(leaves(), 3);
  await connects();
  for (let i = 0; i < 4; i++) {
    mock.timers.tick(20_000);
    says({ type: 'news', channel: 'news/1', data: 1 });
  }
  assert.equal(leaves(), 35);
  line.close({ reason: 'closed' });
});

test('another mast of the phone asks an open line at once, and disturbs no handshake', async () => {
  const connection = new EventTarget();
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { connection }, configurable: true });
  const sockets = [];
  const Socket = class {
    sent = [];
    constructor() {
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text).type);
    }
    close() {}
  };
  const rt = new Realtime('ws://gateway', { token: 'token', WebSocket: Socket, fallback: false });
  await turns();
  const changes = () => connection.dispatchEvent(new Event('change'));
  mock.timers.tick(10_000);
  changes();
  await turns();
  assert.equal(sockets.length, 1);
  sockets[0].onopen?.();
  sockets[0].onmessage({ data: '{"type": "connected"}' });
  changes();
  assert.deepEqual(sockets[0].sent, ['heartbeat']);
  mock.timers.tick(3_000);
  assert.notEqual(rt.state, 'open');
  rt.close();
  delete globalThis.navigator;
  if (before) Object.defineProperty(globalThis, 'navigator', before);
});
