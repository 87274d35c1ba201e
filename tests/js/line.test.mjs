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

/** A line on which the gateway `says` something, and `leaves` are the seconds until the client has left it and tries again. */
function scripted() {
  let transport;
  const line = new Line(() => (transport = { send() {}, close() {} }), {}, { state() {}, open() {}, message() {} });
  const says = (message) => transport.onmessage(JSON.stringify(message));
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
  return { line, says, leaves, connects };
}

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

test('a line that was dead makes nobody patient where what was missed came at once, and one that is slow does', async () => {
  const { line, says, leaves, connects } = scripted();
  line.connect();
  await connects();
  assert.equal(leaves(), 35);
  await connects();
  says({ type: 'news', channel: 'news/1', data: 1, id: 1 });
  assert.equal(leaves(), 35, 'each change of the network is noticed as soon as the first');
  await connects();
  mock.timers.tick(30_000);
  says({ type: 'news', channel: 'news/1', data: 'large', id: 2 });
  assert.equal(leaves(), 45, 'a message that took 30 s stands for a slow line');
  line.close({ reason: 'closed' });
});

test('a line on which messages come for a minute is a good one, and who looks waits three seconds on any', async () => {
  const { line, says, leaves, connects } = scripted();
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

/** A page whose network is measured: `network` is its `navigator.connection`, `changes(type)` has the browser tell of it. */
async function measured(t) {
  const network = new EventTarget();
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { connection: network }, configurable: true });
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
  t.after(() => {
    rt.close();
    delete globalThis.navigator;
    if (before) Object.defineProperty(globalThis, 'navigator', before);
  });
  await turns();
  const changes = async (type) => {
    network.type = type;
    network.dispatchEvent(new Event('change'));
    await turns();
  };
  const says = (message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
  const ends = () => sockets.at(-1).onclose({ code: 1006 });
  return { rt, sockets, changes, says, ends };
}

test('another kind of network asks an open line at once, and ends a wait', async (t) => {
  const { rt, sockets, changes, says, ends } = await measured(t);
  says({ type: 'connected' });
  await changes('cellular');
  assert.deepEqual(sockets[0].sent, ['heartbeat']);
  mock.timers.tick(3_000);
  assert.notEqual(rt.state, 'open');
  mock.method(Math, 'random', () => 1);
  await turns();
  mock.timers.tick(2_000);
  ends();
  assert.equal(rt.state, 'waiting');
  await changes('wifi');
  mock.timers.tick(0);
  assert.equal(rt.state, 'connecting');
});

for (const type of [undefined, 'cellular']) {
  test(`another mast, or another estimate, wakes nobody where the network is ${type}`, async (t) => {
    const { rt, sockets, changes, says, ends } = await measured(t);
    await changes(type);
    mock.timers.tick(10_000);
    await changes(type);
    assert.equal(sockets.length, 1, 'a handshake is not disturbed');
    says({ type: 'connected' });
    await changes(type);
    assert.deepEqual(sockets[0].sent, []);
    mock.method(Math, 'random', () => 1);
    ends();
    await changes(type);
    mock.timers.tick(900);
    assert.equal(rt.state, 'waiting');
  });
}

test('a token function without an end is given up, and what fails each attempt is told once', async (t) => {
  const reported = mock.method(console, 'error', () => {});
  const refused = [];
  const ends = [];
  let token = () => new Promise(() => {});
  let transport;
  const open = () => (transport = { send() {}, close() {} });
  const line = new Line(open, { token: () => token() }, {
    state: (state, { reason } = {}) => state === 'waiting' && ends.push(reason),
    open() {},
    message: ({ code }) => refused.push(code),
  });
  t.after(() => line.close({ reason: 'closed' }));
  line.connect();
  for (let attempt = 0; attempt < 2; attempt++) {
    mock.timers.tick(15_000);
    await turns();
    mock.timers.tick(0);
  }
  assert.deepEqual(ends, ['token_unavailable', 'token_unavailable']);
  assert.equal(reported.mock.callCount(), 1);
  token = () => 'token';
  const refuse = (code) => {
    transport.onmessage(JSON.stringify({ type: 'error', code }));
    transport.onclose({ code: 1008, reason: code });
  };
  line.connect();
  for (const code of ['connection_limit', 'connection_limit', 'node_full']) {
    await turns();
    refuse(code);
    mock.timers.tick(0);
  }
  await turns();
  transport.onmessage(JSON.stringify({ type: 'connected' }));
  for (let i = 0; i < 2; i++) transport.onmessage(JSON.stringify({ type: 'error', code: 'node_full' }));
  refuse('node_full');
  mock.timers.tick(0);
  await turns();
  refuse('node_full');
  assert.deepEqual(refused, ['connection_limit', ...Array(5).fill('node_full')], 'an open line and each new trouble are told of');
});

/** A line whose `transports` tell what was sent; `says(message)` is of the last one. */
function made(t, options) {
  const transports = [];
  const open = () => {
    transports.push({ sent: [], send(text) { this.sent.push(JSON.parse(text)); }, close() {} });
    return transports.at(-1);
  };
  const line = new Line(open, options, { state() {}, open() {}, message() {} });
  t.after(() => line.close({ reason: 'closed' }));
  const says = (message) => transports.at(-1).onmessage(JSON.stringify(message));
  line.connect();
  return { line, transports, says };
}

test('a clock that is set back by an hour delays neither the next attempt nor the watchdog by that', async (t) => {
  mock.timers.setTime(10_000_000);
  const { line, transports, says } = made(t, {});
  await turns();
  mock.method(Math, 'random', () => 1);
  transports[0].onclose({ code: 1006, reason: '' });
  const clock = Date.now;
  mock.method(Date, 'now', () => clock() - 3_600_000);
  line.wake();
  mock.timers.tick(1_000);
  await turns();
  assert.equal(transports.length, 2);
  says({ type: 'connected' });
  mock.method(Date, 'now', () => clock() - 7_200_000);
  for (let i = 0; i < 2; i++) mock.timers.tick(25_000);
  assert.deepEqual(transports[1].sent, [{ type: 'heartbeat' }]);
});

test('a watchdog that is never to ask sets no timers', async (t) => {
  const { says } = made(t, { watchdog: Infinity });
  await turns();
  const timers = mock.method(globalThis, 'setTimeout');
  says({ type: 'connected' });
  mock.timers.tick(60_000);
  assert.ok(timers.mock.calls.every(({ arguments: [, ms] }) => ms < 2 ** 31));
  assert.equal(timers.mock.callCount(), 1);
});

test('the token that the gateway has is not sent again: the function is asked again until it has another', async (t) => {
  const tokens = ['old', 'old', 'old', 'new'];
  const { transports, says } = made(t, { token: async () => tokens.shift() });
  await turns();
  says({ type: 'connected' });
  says({ type: 'token_expiring' });
  for (let i = 0; i < 3; i++) {
    await turns();
    mock.timers.tick(30_000);
  }
  await turns();
  assert.deepEqual(transports[0].sent.filter(({ type }) => type === 'refresh'), [{ type: 'refresh', token: 'new' }]);
});
