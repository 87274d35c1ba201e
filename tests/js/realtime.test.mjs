import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { mockRealtime } from '../../gateway/web/static/client/src/mock.js';
import { Realtime } from '../../gateway/web/static/client/src/realtime.js';
import { session } from '../../gateway/web/static/client/src/storage.js';

const CHANNEL = 'run-results/1';
const reported = mock.method(console, 'error', () => {});

let leave = () => {};
afterEach(() => leave());

/** A client at the gateway of the package. */
function client(options) {
  reported.mock.resetCalls();
  const gateway = mockRealtime();
  const rt = new Realtime(gateway.url, { ...gateway.options, ...options });
  leave = () => rt.close();
  const becomes = (state) =>
    new Promise((resolve) => rt.addEventListener('state', ({ detail }) => detail.state === state && resolve(detail)));
  return { gateway, rt, becomes };
}

test('a loop that is left is not given again what it was left on', async () => {
  const { gateway, rt } = client();
  for (const data of [1, 2, 3]) gateway.publish(CHANNEL, data);
  for (const expected of [1, 2, 3]) {
    for await (const { data } of rt.channel(CHANNEL)) {
      assert.equal(data, expected);
      break;
    }
  }
});

test('with ack it is: whether it was processed nobody has said', async () => {
  const { gateway, rt } = client();
  for (const data of [1, 2]) gateway.publish(CHANNEL, data);
  for (let turn = 0; turn < 2; turn++) {
    for await (const { data } of rt.channel(CHANNEL, { ack: true })) {
      assert.equal(data, 1);
      break;
    }
  }
});

test('a loop can be ended while it waits', async () => {
  const { gateway, rt } = client();
  const each = rt.channel(CHANNEL);
  const waiting = each.next();
  await setImmediate();
  assert.deepEqual(await each.return('over'), { value: 'over', done: true });
  assert.deepEqual(await waiting, { done: true });
  assert.deepEqual(await each.next(), { done: true });
  await setImmediate();
  assert.deepEqual(gateway.received.map(({ type }) => type), ['subscribe', 'unsubscribe']);
});

test('questions before there are messages are answered in turn', async () => {
  const { gateway, rt } = client();
  const each = rt.channel(CHANNEL);
  const asked = [each.next(), each.next(), each.next()];
  for (const data of [1, 2, 3]) gateway.publish(CHANNEL, data);
  assert.deepEqual((await Promise.all(asked)).map(({ value }) => value.data), [1, 2, 3]);
});

test('a loop at a client that has given up says why, and at one that was closed it ends', async () => {
  const { gateway, rt, becomes } = client();
  await becomes('open');
  const closed = becomes('closed');
  const running = rt.channel(CHANNEL).next();
  gateway.disconnect(1008, 'flood');
  await closed;
  const flood = { name: 'RealtimeError', code: 'flood', channel: CHANNEL };
  await assert.rejects(running, flood);
  await assert.rejects(rt.channel(CHANNEL).next(), flood);
  rt.close();
  assert.deepEqual(await rt.channel(CHANNEL).next(), { done: true });
});

test('a loop that begins just before the client connects again goes on', async () => {
  const { gateway, rt, becomes } = client();
  await becomes('open');
  const closed = becomes('closed');
  gateway.disconnect(1008, 'flood');
  await closed;
  const running = rt.channel(CHANNEL).next();
  rt.connect();
  gateway.publish(CHANNEL, 1);
  assert.equal((await running).value.data, 1);
});

test('who hears that it is open knows the user, and may leave that connection', async () => {
  const { gateway, rt, becomes } = client();
  const users = [];
  rt.addEventListener('state', ({ detail }) => detail.state === 'open' && users.push(rt.userId) < 2 && rt.connect());
  rt.subscribe(CHANNEL, () => {});
  await becomes('open');
  await becomes('open');
  await setImmediate();
  assert.deepEqual([users.length, users.includes(undefined), gateway.received.length], [2, false, 1]);
});

test('what the client does not know it leaves alone', async () => {
  const { gateway, rt, becomes } = client();
  const errors = [];
  rt.addEventListener('error', ({ detail }) => errors.push(detail.code));
  await becomes('open');
  const [socket] = gateway.connections;
  socket.say({ type: 'of tomorrow', code: 'new' });
  socket.say({ type: 'of tomorrow', channel: CHANNEL, code: 'new' });
  socket.say({ type: 'error', code: 'invalid_message' });
  await setImmediate();
  assert.deepEqual(errors, ['invalid_message']);
});

for (const secret of ['Bearer abc.def', 'abc\ndef', '', undefined, null, 7, 'ä.b.c']) {
  test(`no token: ${JSON.stringify(secret)}`, async () => {
    const { rt, becomes } = client({ token: async () => secret });
    assert.equal((await becomes('waiting')).reason, 'token_unavailable');
    assert.match(String(reported.mock.calls[0].arguments[0]), /^Error: token: no JWT$/);
    rt.close();
  });
}

test('a text that is no token is hopeless, and space around one is none of it', async () => {
  const { becomes } = client({ token: 'Bearer abc' });
  assert.equal((await becomes('closed')).reason, 'token_invalid');
  const shown = [];
  const Socket = class {
    constructor(_, protocols) {
      shown.push(protocols[1]);
    }
    close() {}
  };
  client({ token: ' abc.def\n', WebSocket: Socket });
  await setImmediate();
  assert.deepEqual(shown, ['bearer.abc.def']);
});

test('no timer of a token that could not be had outlives the client', async () => {
  let fails = false;
  const { gateway, rt, becomes } = client({
    async token() {
      if (fails) throw new Error('no login');
      return 'token';
    },
  });
  await becomes('open');
  fails = true;
  gateway.expireTokens();
  await setImmediate();
  assert.equal(reported.mock.callCount(), 1);
  rt.close();
  await setImmediate();
  assert.ok(!process.getActiveResourcesInfo().includes('Timeout'));
});

test('after an outage of the mock its client is back at once, and hears what it was told before', async () => {
  const { gateway, rt, becomes } = client();
  const heard = [];
  rt.subscribe(CHANNEL, (data) => heard.push(data));
  await becomes('open');
  await setImmediate();
  gateway.publish(CHANNEL, 1);
  gateway.offline();
  gateway.publish(CHANNEL, 2);
  assert.equal(gateway.connections.size, 0);
  await becomes('connecting');
  assert.deepEqual(heard, [1]);
  gateway.online();
  await becomes('open');
  await setImmediate();
  assert.deepEqual(heard, [1, 2]);
});

test('what one user has received says nothing of what another one has', async () => {
  const saved = { bob: new Map([[CHANNEL, 7]]) };
  const storage = () => {
    let kept;
    return {
      load: (user) => (kept = saved[user] ??= new Map()),
      save: (changes) => changes.forEach((id, channel) => kept.set(channel, id)),
    };
  };
  const { gateway, rt, becomes } = client({ storage });
  gateway.user = 'ann';
  rt.subscribe(CHANNEL, () => {});
  await becomes('open');
  await setImmediate();
  const { id } = gateway.publish(CHANNEL, 1);
  gateway.user = 'bob';
  gateway.disconnect();
  await becomes('open');
  await setImmediate();
  assert.deepEqual([gateway.received.at(-1).since, saved.ann.get(CHANNEL)], [7, id]);
});

test('clients of one page and user keep their positions side by side', () => {
  const kept = new Map();
  globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
  const [a, b] = [session('ws://gateway'), session('ws://gateway')];
  for (const each of [a, b]) each.load('user');
  a.save(new Map([['c/1', 1], ['c/2', 2]]));
  b.save(new Map([['c/3', 3]]));
  a.save(new Map([['c/2', undefined]]));
  assert.deepEqual([...session('ws://gateway').load('user')], [['c/1', 1], ['c/3', 3]]);
  for (const text of ['{"c/1": 7}', '7', '"text"', '[7]', 'null']) {
    kept.set(kept.keys().next().value, text);
    assert.deepEqual([...session('ws://gateway').load('user')], [], text);
  }
  delete globalThis.sessionStorage;
});

test('a storage that there is not is reported by the name of the option, and positions are in memory', async () => {
  // What is loaded on demand lies beside what is built.
  const { Realtime: Built } = await import('../../gateway/web/static/client/client.js');
  const told = new Promise((resolve) => reported.mock.mockImplementationOnce(resolve));
  const gateway = mockRealtime();
  const rt = new Built(gateway.url, { ...gateway.options, storage: 'indexedb' });
  leave = () => rt.close();
  assert.match((await told).message, /^storage: 'indexedb' is none of 'memory', 'session', 'indexeddb', and no function$/);
  gateway.publish(CHANNEL, 1);
  for await (const { data } of rt.channel(CHANNEL)) {
    assert.equal(data, 1);
    break;
  }
});
