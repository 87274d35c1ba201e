import assert from 'node:assert/strict';
import { afterEach, mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Channels } from '../../gateway/web/static/client/src/channels.js';
import { Positions } from '../../gateway/web/static/client/src/positions.js';

const CHANNEL = 'run-results/1';

let leave = () => {};
afterEach(() => leave()); // with its timers

/** Channels of an open connection; `sent` to the gateway, `heard` as [subscriber, data or error code], `emitted` codes of errors, or `gap`. */
function channels() {
  const sent = [];
  const heard = [];
  const emitted = [];
  const positions = new Positions();
  const each = new Channels(
    (message) => sent.push(message),
    (type, { code = type }) => emitted.push(code),
    positions,
  );
  const subscribe = (name, { callback = (data) => heard.push([name, data]), ...options } = {}) => {
    const onError = ({ code }) => heard.push([name, code]);
    return each.subscribe(CHANNEL, callback, { onError, ...options });
  };
  const says = (message) => each.hear({ channel: CHANNEL, ...message });
  const data = (id) => says({ type: 'run-results', data: id, id });
  each.opened();
  leave = () => each.lost();
  return { channels: each, positions, subscribe, says, data, sent, emitted, taken: (from = heard) => from.splice(0) };
}

test('a bad channel token is the trouble of who has shown it', async () => {
  const { channels: each, subscribe, says, data, sent, taken } = channels();
  subscribe('a');
  says({ type: 'subscribed' });
  subscribe('b', { token: 'bad', since: 0 });
  says({ type: 'error', code: 'token_invalid' });
  data(1);
  assert.deepEqual(taken(), [['b', 'token_invalid'], ['a', 1]]);
  // With the next connection both ask together, and the one without a token then by itself.
  each.lost();
  sent.length = 0;
  each.opened();
  await setImmediate();
  says({ type: 'error', code: 'token_invalid' });
  says({ type: 'subscribed' });
  data(2);
  assert.deepEqual(taken(), [['b', 'token_invalid'], ['a', 2]]);
  assert.deepEqual(sent.map(({ token }) => token), ['bad', undefined]);
});

test('an error that answers no question ends nothing', () => {
  const { subscribe, says, data, emitted, taken } = channels();
  subscribe('a');
  says({ type: 'subscribed' });
  says({ type: 'error', code: 'internal_error' });
  subscribe('b', { since: 0 });
  says({ type: 'error', code: 'not_subscribed' }); // of an ack
  says({ type: 'subscribed' });
  data(1);
  assert.deepEqual(taken(), [['a', 1], ['b', 1]]);
  assert.deepEqual(emitted, ['internal_error', 'not_subscribed']);
});

test('the end of a subscription is of all who heard it, and a question that is under way has its own answer', () => {
  const { subscribe, says, data, taken } = channels();
  subscribe('a');
  says({ type: 'subscribed' });
  subscribe('b', { since: 0 });
  says({ type: 'unsubscribed', reason: 'revoked' });
  data(1);
  says({ type: 'subscribed' });
  data(2);
  assert.deepEqual(taken(), [['a', 'revoked'], ['b', 2]]);
});

test('a channel token that is refused though it is new is asked for again, later and later', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  mock.method(Math, 'random', () => 0.5);
  const { channels: each, subscribe, says, sent, taken } = channels();
  let asked = 0;
  subscribe('a', { token: async () => `token ${++asked}` });
  for (const [code, ms] of [['token_not_yet_valid', 15_000], ['token_expired', 30_000], ['token_expired', 60_000]]) {
    await setImmediate();
    says({ type: 'error', code });
    assert.deepEqual(taken(), [['a', code]]);
    const before = sent.length;
    mock.timers.tick(ms - 1);
    await setImmediate();
    assert.equal(sent.length, before);
    mock.timers.tick(1);
    await setImmediate();
    assert.equal(sent.length, before + 1);
  }
  // One that has served for a while is old.
  says({ type: 'subscribed' });
  mock.timers.tick(6_000);
  says({ type: 'unsubscribed', reason: 'expired' });
  await setImmediate();
  assert.equal(sent.at(-1).token, `token ${asked}`);
  assert.equal(asked, 5);
  each.lost(); // its timers are those of the test
  mock.restoreAll();
  mock.timers.reset();
});

test('before its first message a subscriber goes on where the subscription began', () => {
  const { channels: each, subscribe, says, data, sent, taken } = channels();
  subscribe('a');
  subscribe('acking', { ack: true });
  says({ type: 'subscribed', position: 4 });
  sent.length = 0;
  each.lost();
  each.opened();
  assert.deepEqual(sent, [{ type: 'subscribe', channel: CHANNEL, since: 4 }]);
  // Another device has received it meanwhile.
  says({ type: 'subscribed', recovered: true, position: 4 });
  data(5);
  assert.deepEqual(taken(), [['a', 5], ['acking', 5]]);
});

test('a channel token as text is shown also where the channel is heard already, once', async () => {
  const { subscribe, says, data, sent, taken } = channels();
  subscribe('a');
  says({ type: 'subscribed', position: 4 });
  data(5);
  sent.length = 0;
  subscribe('b', { token: 'good' });
  says({ type: 'subscribed', recovered: true, position: 5 });
  subscribe('c', { token: 'good' });
  subscribe('d', { token: async () => 'renewed when it is needed' });
  await setImmediate();
  assert.deepEqual(sent, [{ type: 'subscribe', channel: CHANNEL, token: 'good', since: 5 }]);
  taken();
  data(6);
  assert.deepEqual(taken(), [['a', 6], ['b', 6], ['c', 6], ['d', 6]]);
});

test('a bad one ends nothing for the others, and who has shown it hears nothing', async () => {
  const { subscribe, says, data, taken } = channels();
  subscribe('a');
  says({ type: 'subscribed' });
  subscribe('b', { token: 'bad' });
  says({ type: 'error', code: 'token_invalid' });
  data(1);
  assert.deepEqual(taken(), [['b', 'token_invalid'], ['a', 1]]);
});

test('a function for a channel token that never settles keeps nobody from the channel', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  const reported = mock.method(console, 'error', () => {});
  const { subscribe, says, data, sent, taken } = channels();
  subscribe('a', { token: () => new Promise(() => {}) });
  subscribe('b');
  mock.timers.tick(15_000);
  await setImmediate();
  assert.equal(reported.mock.callCount(), 1);
  says({ type: 'subscribed' });
  data(1);
  assert.deepEqual(taken(), [['a', 'token_unavailable'], ['b', 1]]);
  assert.deepEqual(sent.map(({ token }) => token), [undefined]);
  leave();
  mock.restoreAll();
  mock.timers.reset();
});

test('who has left is told nothing more', async () => {
  const { subscribe, says, data, taken } = channels();
  const told = [];
  const options = Object.fromEntries(['onSubscribed', 'onGap', 'onError', 'onEnd'].map((name) => [name, () => told.push(name)]));
  subscribe('stays');
  says({ type: 'subscribed' });
  subscribe('at once', options)();
  await setImmediate();
  // One that leaves while another is told of the same.
  let leaveOther;
  subscribe('first', { onGap: () => leaveOther() });
  leaveOther = subscribe('other', options);
  await setImmediate();
  assert.deepEqual(told.splice(0), ['onSubscribed']);
  says({ type: 'error', code: 'messages_lost' });
  data(1);
  assert.deepEqual([told, taken()], [[], [['stays', 1], ['first', 1]]]);
});

test('what has come before the gateway has heard of an unsubscribe is asked for by who comes back', () => {
  const { subscribe, says, data, sent, taken } = channels();
  const unsubscribe = () => subscribe('a')();
  unsubscribe();
  unsubscribe();
  subscribe('b');
  assert.deepEqual(sent.map(({ type }) => type), ['subscribe', 'unsubscribe'], 'where it is to begin is not known yet');
  says({ type: 'subscribed', position: 4 });
  data(5);
  says({ type: 'unsubscribed' });
  assert.deepEqual(sent.slice(2), [{ type: 'subscribe', channel: CHANNEL, since: 4 }]);
  says({ type: 'subscribed', recovered: true, position: 4 });
  data(5);
  assert.deepEqual(taken(), [['b', 5]]);
});

test('also long afterwards, and not from further back than where it had been before', () => {
  const { subscribe, says, data, sent } = channels();
  const leaves = (ids) => {
    const leave = subscribe('a');
    says({ type: 'subscribed', position: 4 });
    ids.forEach(data);
    leave();
    says({ type: 'unsubscribed' });
  };
  leaves([]);
  leaves([5, 6]);
  subscribe('a')();
  says({ type: 'subscribed', recovered: true, position: 6 });
  says({ type: 'unsubscribed' });
  subscribe('a');
  assert.deepEqual(sent.filter(({ type }) => type === 'subscribe').map(({ since }) => since), [undefined, 4, 6, 6]);
});

test('who had a position of its own and leaves at once leaves none to the next one', () => {
  const { subscribe, says, data, sent } = channels();
  subscribe('all', { since: 0 })();
  subscribe('new');
  says({ type: 'subscribed', recovered: true, position: 0 });
  data(1);
  says({ type: 'unsubscribed' });
  assert.deepEqual([sent.length, sent[2].since], [3, undefined]);
});

for (const [what, leaves] of [['stays', false], ['leaves at once', true]]) {
  test(`who comes while the first one waits for the answer gets the same, also where that one ${what}`, () => {
    const { channels: each, subscribe, says, data, sent, taken } = channels();
    const leave = subscribe('a');
    subscribe('b');
    if (leaves) leave();
    says({ type: 'subscribed', position: 4 });
    each.hear({ channel: CHANNEL, type: 'run-results', data: 5, id: 5 });
    data(6);
    assert.deepEqual(taken(), leaves ? [['b', 5], ['b', 6]] : [['a', 5], ['b', 5], ['a', 6], ['b', 6]]);
    assert.equal(sent.length, 1);
    each.lost();
    sent.length = 0;
    each.opened();
    assert.equal(sent[0].since, 6);
  });
}

test('who has come meanwhile and has a position, or a token to show, asks with that', () => {
  for (const [options, asked] of [[{ since: 0 }, { since: 0 }], [{ token: 'text' }, { token: 'text', since: 4 }]]) {
    const { subscribe, says, sent } = channels();
    subscribe('a');
    subscribe('b', options);
    says({ type: 'subscribed', position: 4 });
    assert.deepEqual(sent.slice(1), [{ type: 'subscribe', channel: CHANNEL, ...asked }]);
  }
});

test('what one that leaves has not processed keeps the position of the others no longer, nor what is acknowledged', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  const { positions, subscribe, says, data, sent } = channels();
  subscribe('fast', { ack: true, since: 0 });
  const leave = subscribe('slow', { ack: true, since: 0, callback: () => new Promise(() => {}) });
  says({ type: 'subscribed', recovered: true, position: 0 });
  data(1);
  assert.equal(positions.get(CHANNEL), 0);
  await setImmediate();
  leave();
  assert.equal(positions.get(CHANNEL), 1);
  mock.timers.tick(1_000);
  assert.deepEqual(sent.at(-1), { type: 'ack', channel: CHANNEL, id: 1 });
  mock.timers.reset();
});

test('a position as a store gives it: none, or a text', () => {
  for (const [since, asked] of [[null], [''], [undefined], ['msg-5'], ['7', 7], [0, 0]]) {
    const { subscribe, sent } = channels();
    subscribe('a', { since });
    assert.equal(sent[0].since, asked);
  }
});

test('where others have a channel asked for again meanwhile, what did not fit is no loss', async () => {
  const { subscribe, says, data, emitted, taken } = channels();
  const settle = [];
  subscribe('slow', { inTurn: true, limit: 3, since: 0, callback: () => new Promise((done) => settle.push(done)) });
  says({ type: 'subscribed', recovered: true, position: 0 });
  for (const id of [1, 2, 3, 4]) data(id);
  const settles = async (ids) => {
    for (const _ of ids) {
      settle.shift()();
      await setImmediate();
    }
  };
  await settles([1, 2]);
  says({ type: 'granted' });
  says({ type: 'subscribed', recovered: true, position: 3 });
  data(4);
  await settles([3, 4]);
  assert.deepEqual([emitted, taken(), settle], [[], [], []]);
});

test('a function that is slow to give an old channel token is asked again after a pause, and that is told', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const { subscribe, says, taken } = channels();
  let asked = 0;
  const token = () => new Promise((given) => setTimeout(given, 6_000, `old ${++asked}`));
  subscribe('a', { token });
  t.mock.timers.tick(6_000);
  await setImmediate();
  says({ type: 'error', code: 'token_expired' });
  assert.deepEqual([asked, taken()], [1, [['a', 'token_expired']]]);
});

test('what nobody has processed is not acknowledged where nothing is subscribed', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { subscribe, says, sent } = channels();
  subscribe('stays', { ack: true, since: 5 });
  const leave = subscribe('leaves', { ack: true, since: 5 });
  says({ type: 'error', code: 'forbidden' });
  leave();
  t.mock.timers.tick(1_000);
  assert.ok(sent.every(({ type }) => type === 'subscribe'));
});

test('a channel token as text that was refused is shown again by who comes with it', () => {
  const { subscribe, says, data, taken } = channels();
  subscribe('a');
  says({ type: 'subscribed', position: 4 });
  for (const name of ['b', 'c']) {
    subscribe(name, { token: 'bad' });
    says({ type: 'error', code: 'token_invalid' });
  }
  data(5);
  assert.deepEqual(taken(), [['b', 'token_invalid'], ['c', 'token_invalid'], ['a', 5]]);
});
