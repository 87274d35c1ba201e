import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { share } from '../../gateway/web/static/client/src/share.js';

const TOKEN = `x.${Buffer.from('{"sub":"ann"}').toString('base64url')}.x`;
const FAILED = { code: 1006, reason: '' };

/** A browser of one tab, in which others may be made out of what is said in the `air`. */
function browser(t, air) {
  const set = (name, value) => {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  };
  const request = async (name, { signal }, then) => (name.endsWith(' b') ? new Promise(() => {}) : !signal.aborted && then());
  set('navigator', { locks: { request } });
  set('BroadcastChannel', air);
}

/** A tab that leads: the `transports` it has opened, and how it has ended. */
async function leader(t) {
  const air = { said: [], postMessage: (message) => air.said.push(message), close() {} };
  browser(t, function (name) {
    return Object.assign(air, { name });
  });
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1 });
  const transports = [];
  const open = () => {
    transports.push({ sent: [], send: (text) => transports.at(-1).sent.push(text), close() {} });
    return transports.at(-1);
  };
  const line = share('ws://gateway', TOKEN, open);
  const ends = [];
  line.onclose = (end) => ends.push(end);
  t.after(() => line.close());
  await setImmediate();
  const connected = () => transports.at(-1).onmessage('{"type":"connected"}');
  return { air, transports, ends, connected };
}

test('a browser that refuses to let tabs speak with each other has a connection for each', (t) => {
  browser(t, function () {
    throw new DOMException('The operation is insecure.', 'SecurityError');
  });
  const own = {};
  assert.equal(share('ws://gateway', TOKEN, (token) => token === TOKEN && own), own);
});

test('the tab that leads does so until WebSockets have failed twice, and what there is in their place once', async (t) => {
  const { transports, ends } = await leader(t);
  for (let tries = 1; tries <= 3; tries++) {
    assert.deepEqual([transports.length, ends], [tries, []]);
    transports.at(-1).onclose(FAILED);
    t.mock.timers.tick(1_000);
    await setImmediate();
  }
  assert.deepEqual([transports.length, ends], [3, [FAILED]]);
});

test('a connection over which something was heard is not made again by the leader alone', async (t) => {
  const { transports, ends, connected } = await leader(t);
  connected();
  transports[0].onclose(FAILED);
  assert.deepEqual(ends, [FAILED]);
});

test('a question of another tab that nobody answers ends the line of all', async (t) => {
  const { air, transports, ends, connected } = await leader(t);
  connected();
  const asks = () => air.onmessage({ data: { ask: { type: 'heartbeat' }, from: 'b' } });
  air.onmessage({ data: { join: 'b' } });
  asks();
  assert.deepEqual(transports[0].sent, ['{"type":"heartbeat"}']);
  t.mock.timers.tick(9_000);
  transports[0].onmessage('{"type":"heartbeat"}');
  t.mock.timers.tick(9_000);
  assert.deepEqual(ends, []);
  asks();
  t.mock.timers.tick(10_000);
  assert.deepEqual(ends, [{ code: 1006, reason: 'no_answer' }]);
  assert.deepEqual(air.said.at(-1), { gone: ends[0] });
});

for (const hidden of [false, true]) {
  test(`a line that is silent for long is watched by the page of the leader, unless it is hidden: ${hidden}`, async (t) => {
    const { air, ends, connected } = await leader(t);
    globalThis.document = { hidden };
    t.after(() => delete globalThis.document);
    connected();
    air.onmessage({ data: { join: 'b' } });
    t.mock.timers.tick(25_000);
    air.onmessage({ data: { ask: { type: 'heartbeat' }, from: 'b' } });
    t.mock.timers.tick(10_000);
    assert.deepEqual(ends, hidden ? [{ code: 1006, reason: 'no_answer' }] : []);
  });
}

test('tabs of another version are not spoken with', async (t) => {
  const { air } = await leader(t);
  assert.match(air.name, /^realtime \d+ \["ws:\/\/gateway",/);
});
