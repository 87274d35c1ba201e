import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hub } from '../../gateway/web/static/client/src/hub.js';

const CHANNEL = 'run-results/1';

/** A hub with the tabs `a` (its own) and `b`; `sent` to the gateway, and `told` to tabs as [tab, type or data]. */
function hub() {
  const sent = [];
  const told = [];
  const each = new Hub(
    (message) => sent.push(message),
    (ids, text) => {
      const { type, data } = JSON.parse(text);
      for (const id of ids) told.push([id, data ?? type]);
    },
    'a',
  );
  each.join('a');
  each.join('b');
  const says = (message) => each.hear(JSON.stringify({ channel: CHANNEL, ...message }));
  const wants = (id, type, more) => each.ask(id, { type, channel: CHANNEL, ...more });
  const data = (id) => says({ type: 'run-results', data: id, id });
  const taken = () => told.splice(0);
  return { hub: each, sent, says, wants, data, taken };
}

test('each tab hears a channel from its own answer on', () => {
  const { sent, says, wants, data, taken } = hub();
  wants('a', 'subscribe');
  wants('b', 'subscribe');
  assert.equal(sent.length, 1, 'one question at a time');
  says({ type: 'subscribed' });
  data(1);
  says({ type: 'subscribed' });
  data(2);
  assert.deepEqual(taken(), [['a', 'subscribed'], ['a', 1], ['b', 'subscribed'], ['a', 2], ['b', 2]]);
});

test('old messages that one asks for reach nobody who began later without a position', () => {
  const { says, wants, data, taken } = hub();
  wants('a', 'subscribe');
  says({ type: 'subscribed' });
  data(1);
  wants('b', 'subscribe');
  says({ type: 'subscribed' });
  wants('a', 'subscribe', { since: 0 });
  says({ type: 'subscribed', recovered: true });
  taken();
  data(1);
  data(2);
  assert.deepEqual(taken(), [['a', 1], ['a', 2], ['b', 2]]);
});

test('the last one to leave leaves at the gateway, and who comes meanwhile waits for its answer', () => {
  const { sent, says, wants, taken } = hub();
  wants('a', 'subscribe');
  says({ type: 'subscribed' });
  wants('b', 'subscribe');
  says({ type: 'subscribed' });
  wants('a', 'unsubscribe');
  assert.equal(sent.length, 2);
  wants('b', 'unsubscribe');
  assert.deepEqual(sent.at(-1), { type: 'unsubscribe', channel: CHANNEL });
  wants('a', 'subscribe');
  assert.equal(sent.length, 3);
  says({ type: 'unsubscribed' });
  assert.equal(sent.at(-1).type, 'subscribe');
  taken();
  says({ type: 'subscribed' });
  assert.deepEqual(taken(), [['a', 'subscribed']]);
});

test('what a tab asked for that died before the answer is left again', () => {
  const { hub: each, sent, says, wants, taken } = hub();
  wants('b', 'subscribe');
  each.leave('b');
  says({ type: 'subscribed' });
  assert.deepEqual(sent.at(-1), { type: 'unsubscribe', channel: CHANNEL });
  assert.deepEqual(taken(), []);
  each.ask('b', { type: 'subscribe', channel: CHANNEL });
  assert.equal(sent.length, 2, 'a dead tab asks for nothing');
});

test('a refusal is told to who asked, and the others go on', () => {
  const { sent, says, wants, data, taken } = hub();
  wants('a', 'subscribe');
  says({ type: 'subscribed' });
  wants('b', 'subscribe', { since: 0 });
  taken();
  says({ type: 'error', code: 'token_invalid' });
  data(1);
  assert.deepEqual(taken(), [['b', 'error'], ['a', 1]]);
  // A tab that hears a channel asks for another of its subscribers.
  wants('a', 'subscribe', { token: 'bad' });
  data(2);
  says({ type: 'error', code: 'token_invalid' });
  data(3);
  assert.deepEqual(taken(), [['a', 2], ['a', 'error'], ['a', 3]]);
  assert.equal(sent.at(-1).token, 'bad', 'nothing is left');
});

test('the end of a subscription is told to all who heard it, and a question that is under way has its own answer', () => {
  const { says, wants, data, taken } = hub();
  wants('a', 'subscribe');
  says({ type: 'subscribed' });
  wants('b', 'subscribe');
  taken();
  says({ type: 'unsubscribed', reason: 'revoked' });
  data(1);
  assert.deepEqual(taken(), [['a', 'unsubscribed']]);
  says({ type: 'subscribed' });
  data(2);
  assert.deepEqual(taken(), [['b', 'subscribed'], ['b', 2]]);
  says({ type: 'granted' });
  assert.deepEqual(taken(), [['a', 'granted'], ['b', 'granted']]);
});

test('after a loss lower ids are new', () => {
  const { says, wants, data, taken } = hub();
  wants('a', 'subscribe');
  says({ type: 'subscribed' });
  data(100);
  wants('b', 'subscribe');
  says({ type: 'subscribed' });
  says({ type: 'error', code: 'messages_lost' });
  taken();
  data(50);
  assert.deepEqual(taken(), [['a', 50], ['b', 50]]);
});

test('one tab renews the token, and who joins is greeted', () => {
  const { hub: each, taken } = hub();
  each.hear('{"type": "connected", "userId": "u"}');
  each.hear('[{"type": "token_expiring"}, {"type": "heartbeat"}]');
  each.join('c');
  assert.deepEqual(taken(), [
    ['a', 'connected'],
    ['b', 'connected'],
    ['a', 'token_expiring'],
    ['a', 'heartbeat'],
    ['b', 'heartbeat'],
    ['c', 'connected'],
  ]);
});

test('a tab that comes later is told where it begins', () => {
  const told = [];
  const each = new Hub(() => {}, (ids, text) => told.push([ids, JSON.parse(text).position]), 'a');
  const says = (message) => each.hear(JSON.stringify({ channel: CHANNEL, ...message }));
  for (const id of ['a', 'b', 'c']) each.join(id);
  each.ask('a', { type: 'subscribe', channel: CHANNEL });
  says({ type: 'subscribed', position: 4 });
  each.ask('b', { type: 'subscribe', channel: CHANNEL });
  says({ type: 'subscribed' });
  says({ type: 'run-results', data: 5, id: 5 });
  each.ask('c', { type: 'subscribe', channel: CHANNEL });
  says({ type: 'subscribed' });
  assert.deepEqual(told, [[['a'], 4], [['b'], 4], [['a', 'b'], undefined], [['c'], 5]]);
});

test('what was sent when all who wanted it had left is asked for by who wants it next', () => {
  const { sent, says, wants, data, taken } = hub();
  const since = () => sent.filter(({ type }) => type === 'subscribe').at(-1).since;
  wants('a', 'subscribe');
  wants('b', 'subscribe');
  wants('a', 'unsubscribe');
  says({ type: 'subscribed', position: 4 });
  assert.equal(since(), 4, 'the next one waits already');
  wants('b', 'unsubscribe');
  data(5);
  says({ type: 'subscribed', recovered: true, position: 4 });
  assert.deepEqual(sent.at(-1), { type: 'unsubscribe', channel: CHANNEL });
  data(5);
  says({ type: 'unsubscribed' });
  wants('b', 'subscribe');
  assert.equal(since(), 4, 'it comes later');
  taken();
  says({ type: 'subscribed', recovered: true, position: 4 });
  data(5);
  wants('a', 'subscribe');
  assert.equal(since(), undefined, 'somebody has heard it');
  assert.deepEqual(taken(), [['b', 'subscribed'], ['b', 5]]);
});

test('behind a loss, too', () => {
  const { sent, says, wants, data } = hub();
  wants('a', 'subscribe');
  says({ type: 'subscribed', position: 90 });
  wants('a', 'unsubscribe');
  says({ type: 'error', code: 'messages_lost' });
  data(2);
  data(3);
  wants('b', 'subscribe');
  says({ type: 'unsubscribed' });
  assert.equal(sent.at(-1).since, 1);
});

test('a tab that has asked without a position is not answered as one that had one', () => {
  const recovered = [];
  const each = new Hub(() => {}, (_, text) => recovered.push(JSON.parse(text).recovered), 'a');
  each.join('a');
  for (const [since, answer] of [[undefined, true], [undefined, false], [4, true]]) {
    each.ask('a', { type: 'subscribe', channel: CHANNEL, since });
    each.hear(JSON.stringify({ type: 'subscribed', channel: CHANNEL, position: 4, recovered: answer }));
  }
  assert.deepEqual(recovered, [undefined, false, true]);
});
