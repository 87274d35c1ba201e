import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { choosing } from '../../gateway/web/static/client/src/choosing.js';
import { Fallback } from '../../gateway/web/static/client/src/fallback.js';

// No test waits for the eight seconds of an attempt that it leaves open.
beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'Date'] }));
afterEach(() => mock.timers.reset());

/**
 * How clients connect, and what was tried: `sockets`, and the `others` over HTTP. `made.told()` is what the way over HTTP says when
 * a gateway has answered.
 */
function tried({ module, Socket = true } = {}) {
  const sockets = [];
  const others = [];
  const made = {};
  const OwnFallback = class extends Fallback {
    constructor(openSocket, told) {
      super(openSocket, told);
      Object.assign(made, { openSocket, told });
    }
    open() {
      others.push({ closed: false, close: () => (others.at(-1).closed = true) });
      return others.at(-1);
    }
  };
  const OwnSocket = class {
    constructor() {
      sockets.push(this);
    }
    close() {
      this.closed = true;
    }
  };
  const open = choosing('ws://gateway', Socket ? OwnSocket : undefined, module ?? OwnFallback);
  const fail = () => sockets.at(-1).onclose({ code: 1006, reason: '' });
  return { open: () => open('token'), fail, sockets, others, made };
}

/** Two WebSockets fail, and something is heard over HTTP. */
async function goOverHttp({ open, fail, made }) {
  for (let i = 0; i < 2; i++) {
    await open();
    fail();
  }
  await open();
  made.told();
}

const CONNECTED = '{"type":"connected"}';

test('where the module for HTTP cannot be loaded WebSockets are tried all the same', async () => {
  const { open, fail, sockets } = tried({ module: true }); // there is no such module beside the source
  for (let i = 0; i < 2; i++) {
    await open();
    fail();
  }
  await assert.rejects(open);
  await open();
  fail();
  assert.equal(sockets.length, 3);
});

test('after two that fail it goes over HTTP, as long as a gateway answers there', async () => {
  const { open, fail, sockets, others, made } = tried();
  for (let i = 0; i < 2; i++) {
    await open();
    fail();
  }
  for (let i = 0; i < 3; i++) {
    await open();
    made.told();
  }
  assert.deepEqual([sockets.length, others.length], [2, 3]);
});

test('where HTTP is of no use either the two are tried in turn', async () => {
  const { open, fail, sockets, others } = tried();
  for (let i = 0; i < 6; i++) {
    await open();
    if (i !== 2 && i !== 4) fail();
  }
  assert.deepEqual([sockets.length, others.length], [4, 2]);
});

test('after a WebSocket was found the next attempt is one, too', async () => {
  const { open, fail, sockets, others, made } = tried();
  await goOverHttp({ open, fail, made });
  made.openSocket('ws://gateway', 'token');
  sockets.at(-1).onmessage({ data: CONNECTED });
  await open();
  assert.deepEqual([others.length, sockets.length], [1, 4]);
});

for (const [what, ms, expected] of [['opens and brings nothing has failed', 8_000, 1], ['the client leaves soon has not', 7_999, 0]]) {
  test(`a WebSocket that ${what}`, async () => {
    const { open, sockets, others } = tried();
    for (let i = 0; i < 2; i++) {
      const way = await open();
      sockets.at(-1).onopen?.();
      mock.timers.tick(ms);
      way.close();
    }
    await open();
    assert.equal(others.length, expected);
  });
}

test('a WebSocket that is closed with a code works', async () => {
  const { open, sockets, others } = tried();
  for (let i = 0; i < 3; i++) {
    await open();
    sockets.at(-1).onclose({ code: 1013, reason: '' });
  }
  assert.deepEqual([sockets.length, others.length], [3, 0]);
});

for (const [seconds, expected] of [[9, [2, 1]], [11, [3, 0]]]) {
  test(`WebSockets that are let through and cut after ${seconds} seconds ${expected[1] ? 'fail, too' : 'work'}`, async () => {
    const { open, fail, sockets, others } = tried();
    for (let i = 0; i < 2; i++) {
      await open();
      sockets.at(-1).onmessage({ data: CONNECTED });
      mock.timers.tick(seconds * 1_000);
      sockets.at(-1).onmessage({ data: '{"type":"heartbeat"}' });
      fail();
    }
    await open();
    assert.deepEqual([sockets.length, others.length], expected);
  });
}

test('a WebSocket that was let through is taken once more, until it is cut again', async () => {
  const { open, fail, sockets, others, made } = tried();
  await goOverHttp({ open, fail, made });
  const beside = made.openSocket('ws://gateway', 'token');
  sockets.at(-1).onmessage({ data: CONNECTED });
  beside.close();
  await open();
  assert.deepEqual([sockets.length, others.length], [4, 1]);
  sockets.at(-1).onmessage({ data: CONNECTED });
  fail();
  await open();
  assert.deepEqual([sockets.length, others.length], [4, 2]);
});

/** An attempt whose WebSocket is not answered within eight seconds, so that HTTP is tried beside it. */
async function waited() {
  const each = tried();
  const line = await each.open();
  const heard = [];
  const ends = [];
  line.onmessage = (text) => heard.push(text);
  line.onclose = (end) => ends.push(end);
  mock.timers.tick(7_999);
  assert.equal(each.others.length, 0);
  mock.timers.tick(1);
  await new Promise(setImmediate);
  assert.equal(each.others.length, 1);
  return { ...each, line, heard, ends, socket: each.sockets[0], other: each.others[0] };
}

test('where nothing answers HTTP is tried beside, and kept when it is heard first', async () => {
  const { line, heard, ends, socket, other, open, sockets, others, made } = await waited();
  made.told();
  other.onmessage(CONNECTED);
  assert.deepEqual([heard, socket.closed], [[CONNECTED], true]);
  socket.onmessage({ data: 'late' });
  socket.onclose({ code: 1006, reason: '' });
  assert.deepEqual([heard.length, ends], [1, []]);
  const said = [];
  other.send = (text) => said.push(text);
  line.send('something');
  assert.deepEqual(said, ['something']);
  other.onclose({ code: 1001, reason: 'stream_ended' });
  assert.deepEqual(ends, [{ code: 1001, reason: 'stream_ended' }]);
  await open();
  assert.deepEqual([sockets.length, others.length], [1, 2]);
});

test('a WebSocket that is heard first is kept, and what is tried beside it is left', async () => {
  const { heard, socket, other, open, sockets } = await waited();
  socket.onmessage({ data: CONNECTED });
  assert.deepEqual([heard, other.closed], [[CONNECTED], true]);
  await open();
  assert.equal(sockets.length, 2);
});

test('as long as one of both may be heard it has not ended', async () => {
  const { ends, socket, other } = await waited();
  socket.onclose({ code: 1006, reason: '' });
  assert.deepEqual(ends, []);
  other.onclose({ code: 1006, reason: 'last' });
  assert.deepEqual(ends, [{ code: 1006, reason: 'last' }]);
});

test('a refusal over HTTP is an answer', async () => {
  const { ends, socket, other } = await waited();
  other.onclose({ code: 1008, reason: 'token_invalid' });
  assert.deepEqual([ends, socket.closed], [[{ code: 1008, reason: 'token_invalid' }], true]);
});

test('what is left leaves both', async () => {
  const { line, socket, other } = await waited();
  line.close();
  assert.deepEqual([socket.closed, other.closed], [true, true]);
});

test('an attempt that is over by then does not go on over HTTP', async () => {
  const { open, fail, others } = tried();
  (await open()).close();
  await open();
  fail();
  mock.timers.tick(10_000);
  assert.equal(others.length, 0);
});

test('a tab that went over HTTP does so at once in its next page', async (t) => {
  globalThis.sessionStorage = { 'realtime-http': 'yes' };
  t.after(() => delete globalThis.sessionStorage);
  const { open, sockets, others } = tried();
  await open();
  assert.deepEqual([sockets.length, others.length], [0, 1]);
});

test('where a WebSocket is heard all the same, the next page tries one first', async (t) => {
  const stored = new Map([['realtime-http', 'yes']]);
  globalThis.sessionStorage = { 'realtime-http': 'yes', removeItem: (key) => stored.delete(key) };
  t.after(() => delete globalThis.sessionStorage);
  const { open, sockets, others } = tried();
  await open(); // over HTTP, where nothing is heard
  await open();
  sockets[0].onmessage({ data: CONNECTED });
  assert.deepEqual([sockets.length, others.length, stored.size], [1, 1, 0]);
});

test('a WebSocket beside that is heard may be cut: until it lasts the next page goes over HTTP', async (t) => {
  const forgotten = [];
  globalThis.sessionStorage = { 'realtime-http': 'poll', getItem: () => 'poll', removeItem: (key) => forgotten.push(key) };
  t.after(() => delete globalThis.sessionStorage);
  const { open, sockets, made } = tried();
  await open();
  made.told();
  made.openSocket('ws://gateway', 'token');
  sockets[0].onmessage({ data: CONNECTED });
  assert.deepEqual(forgotten, []);
});

test('where there are no WebSockets at all it is HTTP', async () => {
  const { open, others, made } = tried({ Socket: false });
  await open();
  await open();
  assert.deepEqual([others.length, made.openSocket], [2, undefined]);
});

test('a WebSocket that is heard while the module for HTTP is loaded is left alone', async () => {
  const { open, sockets, others } = tried();
  const line = await open();
  const heard = [];
  line.onmessage = (text) => heard.push(text);
  mock.timers.tick(8_000);
  sockets[0].onmessage({ data: CONNECTED });
  await new Promise(setImmediate);
  assert.deepEqual([heard, others.length], [[CONNECTED], 0]);
});
