import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Subscription } from '../../gateway/web/static/client/src/subscription.js';

/** A subscription that is live; `heard` what its callback was given, and `drained` how it was told that all of it is done. */
function subscription(options, callback = () => {}) {
  const heard = [];
  const drained = [];
  const take = (data) => {
    heard.push(data);
    return callback(data);
  };
  const on = { drained: () => drained.push('again'), missed: () => drained.push('missed'), processed: () => {} };
  const each = new Subscription(take, options, on);
  each.live = true;
  const gets = (...ids) => ids.forEach((id) => each.take({ id, data: id }));
  return { each, heard, drained, gets };
}

test('repeats are left out, and after a loss lower ids are new', () => {
  const { each, heard, gets } = subscription({ since: 3 });
  gets(2, 3, 4, 4, 5);
  each.lose();
  gets(1);
  assert.deepEqual(heard, [4, 5, 1]);
});

test('what has no id is never a repeat', () => {
  const { each, heard } = subscription({});
  for (let i = 0; i < 2; i++) each.take({ data: 'x' });
  assert.deepEqual(heard, ['x', 'x']);
});

test('what does not fit is asked for again behind what did', async () => {
  let go;
  const { each, heard, drained, gets } = subscription({ inTurn: true, limit: 2 }, () => new Promise((done) => (go = done)));
  gets(1, 2, 3, 4);
  assert.equal(each.last, 2);
  assert.equal(each.live, false);
  go();
  await setImmediate();
  assert.deepEqual(drained, []);
  go();
  await setImmediate();
  assert.deepEqual([heard, drained], [[1, 2], ['again']]);
});

test('where nothing is kept what does not fit is lost, and it goes on', async () => {
  let go;
  const { each, drained } = subscription({ inTurn: true, limit: 1 }, () => new Promise((done) => (go = done)));
  for (const data of ['first', 'second']) each.take({ data });
  assert.equal(each.live, true);
  go();
  await setImmediate();
  assert.deepEqual(drained, ['missed']);
});

test('what failed and what is behind it comes again with the next connection', async () => {
  const { each, heard, gets } = subscription({ ack: true }, (data) => {
    if (data === 2) throw new Error('as the test wants it');
  });
  console.error = () => {};
  gets(1, 2, 3);
  await setImmediate();
  assert.deepEqual([each.done, each.last, each.reached], [1, 3, 1]);
  each.resume();
  assert.equal(each.last, 1);
  each.live = true;
  gets(2, 3);
  await setImmediate();
  assert.deepEqual(heard, [1, 2, 3, 2, 3]);
});

test('what failed before anything was done comes again, too', async () => {
  const { each, heard, gets } = subscription({ ack: true }, () => {
    throw new Error('as the test wants it');
  });
  console.error = () => {};
  gets(7, 9);
  await setImmediate();
  each.resume();
  assert.deepEqual([each.done, each.reached, each.last], [6, 6, 6]);
  each.live = true;
  gets(7, 9);
  await setImmediate();
  assert.deepEqual(heard, [7, 9, 7, 9]);
});

test('what is unfinished when messages are lost moves no position afterwards', async () => {
  let go;
  const { each, gets } = subscription({ ack: true }, () => new Promise((done) => (go = done)));
  gets(100);
  each.lose();
  gets(1);
  go();
  await setImmediate();
  assert.equal(each.reached, 0, 'behind which 1 comes again');
});

test('at least one message may wait', async () => {
  const { heard, gets } = subscription({ inTurn: true, limit: 0 });
  gets(1);
  await setImmediate();
  gets(2);
  assert.deepEqual(heard, [1, 2]);
});

test('a loss is told behind the messages before it', async () => {
  const order = [];
  const { each, gets } = subscription({ ack: true, onGap: () => order.push('gap') }, (data) => order.push(data));
  gets(1, 2);
  each.lose();
  gets(1);
  await setImmediate();
  assert.deepEqual(order, [1, 2, 'gap', 1]);
});

test('after the end nothing that waits is handed over, and nothing counts as processed', async () => {
  let go;
  const processed = [];
  const heard = [];
  const take = (data) => {
    heard.push(data);
    return new Promise((done) => (go = done));
  };
  const each = new Subscription(take, { ack: true }, { drained: () => {}, processed: () => processed.push(each.done) });
  each.live = true;
  for (const id of [1, 2]) each.take({ id, data: id });
  each.stop();
  each.take({ id: 3, data: 3 });
  go();
  await setImmediate();
  assert.deepEqual([heard, processed], [[1], []]);
});

test('a promise of a callback that fails is reported, also without ack', async (t) => {
  const { mock: reported } = t.mock.method(console, 'error', () => {});
  const fails = async () => {
    throw new Error('as the test wants it');
  };
  const { each, gets } = subscription({ onGap: fails }, fails);
  gets(1);
  each.lose();
  await setImmediate();
  assert.equal(reported.callCount(), 2);
});
