import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { Reconnecting } from '../../gateway/web/static/client/src/reconnecting.js';

let random;
beforeEach(() => (random = 1));
mock.method(Math, 'random', () => random);

const lost = (each, now = 0) => each.pause(1006, '', now);

test('pauses are twice as long each time, up to the longest', () => {
  const each = new Reconnecting();
  assert.deepEqual(
    Array.from({ length: 8 }, () => lost(each)),
    [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000],
  );
});

test('who is asked to wait waits for at least so long, and not all until one instant', () => {
  const each = new Reconnecting();
  assert.deepEqual([1, 2].map(() => each.pause(1006, '', 0, 60_000)), [61_000, 62_000]);
});

test('they are random from nothing on', () => {
  random = 0;
  assert.equal(lost(new Reconnecting()), 0);
});

test('an outage of a year makes no number too large', () => {
  const each = new Reconnecting();
  for (let i = 0; i < 5000; i++) lost(each);
  assert.equal(lost(each), 30000);
});

test('they begin anew when a connection has lasted for a minute, and not when it was only open', () => {
  const each = new Reconnecting();
  lost(each);
  lost(each);
  each.opened(0);
  assert.equal(lost(each, 59_000), 4000);
  each.opened(100_000);
  assert.equal(lost(each, 161_000), 1000);
});

test('a node that leaves is left within a second each time, and who leaves at once again and again more and more rarely', () => {
  const each = new Reconnecting();
  for (let i = 0; i < 5; i++) {
    each.opened(0);
    assert.equal(each.pause(1001, 'draining', 5_001), 1000);
  }
  const pauses = () => Array.from({ length: 7 }, () => each.pause(1001, 'draining', 0));
  assert.deepEqual(pauses(), [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
});

test('a shared connection whose tab has left is made again at once, unless each tab leaves it', () => {
  const each = new Reconnecting();
  for (let i = 0; i < 5; i++) {
    each.opened(0);
    assert.equal(each.pause(1001, 'leader_left', 5_001), 100);
  }
  each.opened(0);
  assert.deepEqual(Array.from({ length: 6 }, () => each.pause(1001, 'leader_left', 1)), [100, 200, 400, 800, 1000, 1000]);
});

test('a WebSocket that was found is taken at once', () => {
  const each = new Reconnecting();
  for (let i = 0; i < 3; i++) assert.equal(each.pause(1001, 'websocket_found', 0), 0);
});

test('without a pause they grow all the same', () => {
  const each = new Reconnecting({ min: 0 });
  for (let i = 0; i < 10; i++) lost(each);
  assert.equal(lost(each), 1024);
});

test('what is hopeless is not tried again', () => {
  for (const [code, reason] of [[1002, ''], [1007, ''], [1009, ''], [1008, 'flood'], [1008, 'replaced'], [1008, 'token_missing']]) {
    assert.equal(new Reconnecting().pause(code, reason, 0), undefined, reason || String(code));
  }
});

test('what passes is', () => {
  const reasons = ['token_expired', 'token_revoked', 'token_not_yet_valid', 'token_key_unknown', 'connection_limit', 'disconnected'];
  for (const reason of reasons) assert.equal(new Reconnecting().pause(1008, reason, 0), 1000, reason);
});

test('an invalid token is tried once more with a fresh one', () => {
  const each = new Reconnecting();
  assert.equal(each.pause(1008, 'token_invalid', 0), 1000);
  assert.equal(each.pause(1008, 'token_invalid', 0), undefined);
  const other = new Reconnecting();
  other.pause(1008, 'token_invalid', 0);
  other.opened(0);
  assert.notEqual(other.pause(1008, 'token_invalid', 0), undefined);
});

test('a token that is always the same is not', () => {
  for (const reason of ['token_invalid', 'token_expired', 'token_revoked']) {
    assert.equal(new Reconnecting({}, false).pause(1008, reason, 0), undefined, reason);
  }
});
