import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Fallback } from '../../gateway/web/static/client/src/fallback.js';
import { CONNECTED, data, json, ownClock, pass, ScriptedHttp, stream, tell, until } from './scripted-http.mjs';

const waiting = ownClock();
const page = new EventTarget();
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.removeEventListener = page.removeEventListener.bind(page);
const online = () => page.dispatchEvent(new Event('online'));

let close = () => {};
afterEach(() => close());

const ACCEPTED = (response) => response.writeHead(202, { Connection: 'close' }).end();
const REFUSED = (status, code, seconds) => (response) => {
  if (seconds) response.setHeader('Retry-After', seconds);
  json(response, { error: { code, message: '', help: 'errors.md' } }, status);
};
const PORTAL = (response) => response.writeHead(200, { 'Content-Type': 'text/html' }).end('<p>Log in');

/** Polls that are answered with these, one after the other, and then wait. */
function polls(...answers) {
  return (response) => {
    const next = answers.shift();
    if (typeof next === 'function') next(response);
    else if (next) json(response, next);
  };
}

/** A client over HTTP: what it has `heard` (without signs of life), the `ends`, and the WebSockets it has tried. */
async function connected(answers) {
  const http = new ScriptedHttp({ 'POST /sse': ACCEPTED, 'POST /poll': ACCEPTED, 'DELETE /sse': ACCEPTED, 'DELETE /poll': ACCEPTED, ...answers });
  const url = await http.start();
  const sockets = [];
  const openSocket = (_, token) => {
    const socket = { token, closed: false, send() {}, close: () => (socket.closed = true) };
    sockets.push(socket);
    return socket;
  };
  const told = [];
  const fallback = new Fallback(openSocket, () => told.push(true));
  const client = { http, url, sockets, told, fallback, heard: [], ends: [], alive: 0 };
  client.open = (token = 'token') => {
    client.line = fallback.open(url, token);
    client.line.onmessage = (text) => {
      if (text === '[]') client.alive++;
      else client.heard.push(JSON.parse(text));
    };
    client.line.onclose = (end) => client.ends.push(end);
  };
  client.said = () => http.asked.flatMap(({ said }) => said ?? []);
  client.ids = () => client.heard.map(({ id }) => id).filter(Boolean);
  close = () => {
    client.line.close();
    http.stop();
  };
  client.open();
  return client;
}

/** A client on a stream; `says` has the gateway say something. */
async function streaming(answers) {
  let response;
  const client = await connected({ 'GET /sse': (given) => stream((response = given), CONNECTED), ...answers });
  client.says = (message) => tell(response, message);
  client.write = (bytes) => response.write(bytes);
  client.cut = () => response.end();
  await until(() => client.heard.length);
  return client;
}

// -- what is heard is acknowledged, and nothing else ----------------------------------------------

test('what comes when the client has left is neither heard nor acknowledged', async () => {
  const farewells = [];
  const client = await streaming({ 'POST /sse': (response) => farewells.push(response) });
  client.says(data(1));
  await until(() => client.ids().length);
  client.line.close();
  await until(() => farewells.length);
  client.says(data(2));
  await pass(500);
  const [{ gone }] = client.http.of('GET', '/sse');
  assert.equal(gone, false, 'the gateway takes acks of living streams only');
  ACCEPTED(farewells[0]);
  await until(() => client.http.of('GET', '/sse')[0].gone);
  assert.deepEqual(client.ids(), [1]);
  assert.deepEqual(client.said(), [{ type: 'ack', channel: 'news/1', id: 1 }]);
  assert.equal(client.http.asked.at(-1).method, 'DELETE', 'its place is given back');
  await until(() => waiting.size === 0);
});

test('a farewell that nobody answers ends soon', async () => {
  const client = await streaming({ 'POST /sse': () => {} });
  client.line.send('{"type":"ack"}');
  client.line.close();
  await until(() => client.http.asked.every(({ gone }) => gone));
  assert.deepEqual(client.said(), [{ type: 'ack' }]);
  await until(() => waiting.size === 0);
});

test('a message whose listener fails is not acknowledged', async () => {
  const client = await streaming();
  client.line.onmessage = () => {
    throw new Error('it fails');
  };
  client.says(data(1));
  await until(() => client.ends.length);
  await pass(2_000);
  assert.deepEqual(client.said(), []);
});

test('polls show by the next one what has come, and the last of them by an ack of what was heard', async () => {
  const client = await polling([CONNECTED, data(1)], [data(2)], (response) => setTimeout(() => json(response, [data(3), data(4)]), 3_000));
  const { onmessage } = client.line;
  client.line.onmessage = (text) => {
    onmessage(text);
    if (client.ids().includes(3)) client.line.close();
  };
  await until(() => client.http.of('GET', '/poll').length === 3);
  await pass(1_500);
  assert.deepEqual(client.said(), []);
  await until(() => client.said().length);
  assert.deepEqual(client.ids(), [1, 2, 3]);
  assert.deepEqual(client.said(), [{ type: 'ack', channel: 'news/1', id: 3 }]);
  await until(() => client.http.of('DELETE', '/poll').length);
});

// -- what is said ---------------------------------------------------------------------------------

test('a renewed token is that of what follows', async () => {
  const client = await streaming();
  client.line.send('{"type":"refresh","token":"new"}');
  await until(() => client.said().length);
  await pass(500);
  client.line.send('{"type":"heartbeat"}');
  await until(() => client.said().length === 2);
  online();
  assert.deepEqual([client.http.of('POST', '/sse').map(({ token }) => token), client.sockets.at(-1).token], [['token', 'new'], 'new']);
});

test('what a gateway cannot take at the moment is said again, in order', async () => {
  let refusals = 2;
  const client = await streaming({
    'POST /sse': (response) => (refusals-- > 0 ? REFUSED(503, 'redis_unavailable')(response) : ACCEPTED(response)),
  });
  client.line.send('1');
  await until(() => client.said().length);
  client.line.send('2');
  await until(() => client.said().includes(2) && refusals < 0);
  assert.deepEqual(client.http.of('POST', '/sse').at(-1).said, [1, 2]);
  assert.deepEqual(client.ends, []);
});

test('what is said at once fits into a request also in characters of three bytes', async () => {
  const client = await streaming();
  for (let i = 0; i < 90; i++) client.line.send(JSON.stringify({ type: 'subscribe', channel: `news/${'通知'.repeat(60)}${i}` }));
  await until(() => client.said().length === 90);
  const sizes = client.http.of('POST', '/sse').map(({ said }) => Buffer.byteLength(JSON.stringify(said)));
  assert.ok(Math.max(...sizes) <= 16_384, `${sizes}`);
});

// -- streams that do not get through --------------------------------------------------------------

for (const [what, answer] of Object.entries({
  'a method that is forbidden': (response) => response.writeHead(405).end(),
  'a bad gateway': (response) => response.writeHead(502).end('<html>'),
  'a page to log in': PORTAL,
  'a reset': (response) => response.socket.destroy(),
  'nothing at all': () => {},
  'a head and no event': (response) => response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders(),
})) {
  test(`a stream that is answered with ${what} leads to polls, in the same attempt`, async () => {
    const client = await connected({ 'GET /sse': answer, 'GET /poll': polls([CONNECTED, data(1)]) });
    await until(() => client.ids().length);
    await until(() => client.http.of('GET', '/sse')[0].gone);
    assert.deepEqual([client.ids(), client.ends, client.told], [[1], [], [true]]);
    client.line.close();
    const before = client.http.of('GET', '/poll').length;
    client.open();
    await until(() => client.http.of('GET', '/poll').length > before);
    assert.equal(client.http.of('GET', '/sse').length, 1, 'it is remembered');
  });
}

test('a gateway that refuses a stream is not asked for polls', async () => {
  const client = await connected({ 'GET /sse': REFUSED(429, 'connection_limit') });
  await until(() => client.ends.length);
  assert.deepEqual([client.ends, client.http.asked.length], [[{ code: 1008, reason: 'connection_limit', retryAfter: 0 }], 1]);
});

test('a gateway that refuses for some seconds is not asked before, whatever happens', async () => {
  const client = await connected({ 'GET /sse': REFUSED(503, 'node_full', 15) });
  await until(() => client.ends.length);
  assert.deepEqual(client.ends.pop(), { code: 1006, reason: '', retryAfter: 15_000 });
  client.open();
  await until(() => client.ends.length);
  const [{ code, retryAfter }] = client.ends;
  assert.deepEqual([code, client.http.asked.length], [1006, 1]);
  assert.equal(retryAfter, 15_000);
  await pass(retryAfter);
  client.open();
  await until(() => client.http.asked.length === 2);
});

test('a clock that is set back by an hour keeps it away for five minutes at most', async (t) => {
  const client = await connected({ 'GET /sse': REFUSED(503, 'node_full', 15) });
  await until(() => client.ends.length);
  const clock = Date.now;
  t.after(() => (Date.now = clock));
  Date.now = () => clock() - 3_600_000;
  client.open();
  await until(() => client.ends.length === 2);
  assert.equal(client.ends[1].retryAfter, 300_000);
});

test('a poll that is refused for some seconds is made again after them', async () => {
  const client = await polling([CONNECTED], REFUSED(429, 'too_many_requests', 6), [data(1)]);
  await until(() => client.http.of('GET', '/poll').length === 2);
  const refused = Date.now();
  await until(() => client.ids().length);
  assert.equal(Date.now() - refused, 7_000);
  assert.deepEqual(client.ends, []);
});

test('without a token to show a refusal over HTTP says nothing about WebSockets', async () => {
  const client = await connected({ 'GET /sse': REFUSED(401, 'token_missing'), 'GET /poll': REFUSED(401, 'token_missing') });
  await until(() => client.ends.length);
  assert.deepEqual([client.ends.pop(), client.told.pop()], [{ code: 1008, reason: 'token_missing', retryAfter: 0 }, true]);
  const line = client.fallback.open(client.url, undefined);
  line.onclose = (end) => client.ends.push(end);
  await until(() => client.ends.length);
  assert.deepEqual([client.ends, client.told], [[{ code: 1006, reason: '' }], []]);
});

test('a stream that is cut at once leads to polls, after a pause that grows', async () => {
  const client = await streaming({ 'GET /poll': polls([CONNECTED]) });
  client.cut();
  await until(() => client.ends.length);
  assert.equal(client.ends[0].code, 1006);
  client.open();
  await until(() => client.heard.length === 2);
  assert.equal(client.http.of('GET', '/sse').length, 1);
});

test('streams are tried again where one has not got through', async () => {
  let lets = false;
  const client = await connected({
    'GET /sse': (response) => (lets ? stream(response, CONNECTED) : PORTAL(response)),
    'GET /poll': polls([CONNECTED]),
  });
  await until(() => client.heard.length);
  lets = true;
  online();
  client.sockets[0].onclose();
  await until(() => client.ends.length);
  assert.deepEqual(client.ends, [{ code: 1001, reason: 'stream_found' }]);
  const before = client.http.of('GET', '/sse').length;
  client.open();
  await until(() => client.http.of('GET', '/sse').length > before);
});

test('characters that come in pieces are read without a TextDecoderStream', async () => {
  delete globalThis.TextDecoderStream;
  const client = await streaming();
  const bytes = Buffer.from('data: {"type":"x","data":"é漢"}\n\n');
  for (let i = 0; i < bytes.length; i += 1) {
    client.write(bytes.subarray(i, i + 1));
    if (bytes[i] > 127) await pass(100);
  }
  await until(() => client.heard.length === 2);
  assert.equal(client.heard[1].data, 'é漢');
});

test('a platform without streams polls at once', async () => {
  const { TextDecoder } = globalThis;
  delete globalThis.TextDecoder;
  try {
    const client = await connected({ 'GET /poll': polls([CONNECTED]) });
    await until(() => client.heard.length);
    assert.equal(client.http.of('GET', '/sse').length, 0);
  } finally {
    globalThis.TextDecoder = TextDecoder;
  }
});

test('a comment shows that the line lives', async () => {
  const client = await streaming();
  client.write(':\n\n');
  await until(() => client.alive === 1);
  assert.equal(client.heard.length, 1);
});

// -- polls ----------------------------------------------------------------------------------------

/** A client that polls, since nothing of a stream gets through. */
const polling = (...answers) => connected({ 'GET /sse': PORTAL, 'GET /poll': polls(...answers) });

test('a page to log in instead of messages ends it, and is not asked again', async () => {
  const client = await polling(PORTAL);
  await until(() => client.ends.length);
  assert.deepEqual([client.ends, client.told], [[{ code: 1006, reason: '' }], []]);
  assert.equal(client.http.of('GET', '/poll').length, 1);
});

test('an answer in JSON that is none of the gateway ends it', async () => {
  for (const answer of [[], { login: 'please' }]) {
    const client = await polling(answer, answer);
    await until(() => client.ends.length);
    assert.equal(client.http.of('GET', '/poll').length, 1);
    close();
  }
});

test('polls that are answered at once with nothing come a second apart, and show that the line lives', async () => {
  const client = await polling([CONNECTED], ...Array(100).fill([]));
  await until(() => client.alive);
  await pass(2_900);
  const { length } = client.http.of('GET', '/poll');
  assert.equal(length, 4);
});

test('polls that bring much come a quarter of a second apart', async () => {
  const client = await polling([CONNECTED], ...Array.from({ length: 100 }, (_, i) => [data(i + 1)]));
  await until(() => client.ids().length);
  await pass(1_900);
  const { length } = client.http.of('GET', '/poll');
  assert.equal(length, 9);
});

test('a poll that a proxy has cut is made again where it was, and waits for less', async () => {
  const late = (response) => setTimeout(() => response.writeHead(504).end(), 8_000);
  const client = await polling([CONNECTED, data(1), { type: 'heartbeat', since: 'a b' }], late, (r) => r.socket.destroy(), [data(2)]);
  await until(() => client.ids().length === 2);
  const [, second, third, fourth] = client.http.of('GET', '/poll').map(({ query }) => query);
  assert.deepEqual(second, { wait: '20', poll: 'name', since: 'a b' });
  assert.deepEqual([third, fourth], [{ ...second, wait: '4' }, third]);
  assert.deepEqual(client.ends, []);
});

test('polls that fail again and again end it', async () => {
  const client = await polling([CONNECTED], ...Array(9).fill((response) => response.writeHead(502).end()));
  await until(() => client.ends.length);
  assert.deepEqual([client.ends[0].code, client.http.of('GET', '/poll').length], [1006, 5]);
});

// -- the end ----------------------------------------------------------------------------------------

test('a client whose place was lost gives back that one, where it is still held, and the one it did not ask for', async () => {
  const deleted = [];
  const client = await polling([CONNECTED, data(1)], (response) => {
    client.http.answers['DELETE /poll'] = (response, { name }) => ACCEPTED(response, deleted.push(name));
    json(response, [{ ...CONNECTED, poll: 'another' }]);
  });
  await until(() => client.ends.length);
  assert.deepEqual(client.ends, [{ code: 1001, reason: 'poll_ended' }]);
  assert.deepEqual(deleted.sort(), ['another', 'name']);
});

test('places that cannot be given back keep nobody waiting', async () => {
  const client = await polling([CONNECTED], (response) => {
    client.http.answers['DELETE /poll'] = () => {};
    json(response, [CONNECTED]);
  });
  await until(() => client.ends.length);
  assert.deepEqual(client.ends, [{ code: 1001, reason: 'poll_ended' }]);
});

test('what is said while places are given back changes nothing', async () => {
  const gone = REFUSED(404, 'not_found');
  const client = await connected({ 'GET /sse': PORTAL, 'GET /poll': polls([CONNECTED], [CONNECTED]), 'POST /poll': gone, 'DELETE /poll': () => {} });
  await until(() => client.http.of('DELETE', '/poll').length === 2);
  client.line.send('{"type":"heartbeat"}');
  await until(() => client.said().length);
  await pass(1_000);
  assert.deepEqual(client.http.of('DELETE', '/poll').map(({ gone }) => gone), [false, false]);
  await until(() => client.ends.length);
  assert.deepEqual(client.ends, [{ code: 1001, reason: 'poll_ended' }]);
});

for (const [what, said, end] of [
  ['has said when to come back', 'retry: 700\n\n', { code: 1001, reason: 'stream_ended', retryAfter: 700 }],
  ['has said nothing', '', { code: 1006, reason: '' }],
  ['has said so for a page that cannot be told to stay away', 'retry: 604800000\n\n', { code: 1001, reason: 'stream_ended', retryAfter: 300_000 }],
]) {
  test(`a stream whose gateway ${what}`, async () => {
    let response;
    const client = await streaming({
      'GET /sse': (given) => {
        stream((response = given));
        response.write('retry: 3000\n\n');
        tell(response, CONNECTED);
      },
    });
    response.end(said);
    await until(() => client.ends.length);
    assert.deepEqual(client.ends, [end]);
    const { retryAfter = 0 } = end;
    if (!retryAfter) return;
    // The page was shown meanwhile.
    client.open();
    await until(() => client.ends.length === 2);
    assert.deepEqual([client.ends[1], client.http.asked.length], [{ code: 1006, reason: '', retryAfter }, 1]);
  });
}

// -- back to WebSockets ---------------------------------------------------------------------------

test('a WebSocket that gets through is left, and the client comes back by one', async () => {
  const client = await streaming();
  client.says(data(1));
  await until(() => client.sockets.length); // by itself, soon
  const [socket] = client.sockets;
  socket.onmessage(JSON.stringify(CONNECTED));
  await until(() => client.ends.length);
  assert.deepEqual([client.ends, socket.closed, client.sockets.length], [[{ code: 1001, reason: 'websocket_found' }], true, 1]);
  await until(() => client.http.asked.every(({ gone }) => gone) && waiting.size === 0);
});

for (const [what, answer] of Object.entries({
  'nothing at all': () => {},
  'a head and no event': (response) => response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders(),
})) {
  test(`a WebSocket is looked for also where polls were heard while a stream was answered with ${what}`, async () => {
    const client = await connected({ 'GET /sse': answer, 'GET /poll': polls([CONNECTED]) });
    await until(() => client.heard.length);
    await until(() => client.sockets.length);
  });
}

test('a WebSocket that is let through and cut soon is not taken', async () => {
  const client = await streaming();
  online();
  client.sockets[0].onmessage(JSON.stringify(CONNECTED));
  await pass(9_000);
  client.sockets[0].onclose({ code: 1006, reason: '' });
  client.says(data(1));
  await until(() => client.ids().length);
  assert.deepEqual(client.ends, []);
});

for (const first of ['connected', 'error']) {
  test(`a WebSocket is taken when it has lasted, or at once where there is no place as long as this one is held: ${first}`, async () => {
    const client = await streaming();
    online();
    client.sockets[0].onmessage(JSON.stringify({ type: first, code: first === 'error' ? 'connection_limit' : undefined }));
    if (first === 'connected') await pass(10_500);
    await until(() => client.ends.length);
    assert.equal(client.ends[0].reason, 'websocket_found');
  });
}

test('where places are what is missing and WebSockets are cut, one is tried less and less often', async () => {
  const client = await streaming();
  const pauses = [];
  for (let i = 0; i < 4; i++) {
    const begun = Date.now();
    await until(() => client.sockets.length > i);
    pauses.push((Date.now() - begun) / 1_000);
    client.sockets[i].onmessage('{"type":"error","code":"connection_limit"}');
    await until(() => client.ends.length > i);
    client.open();
    await until(() => client.heard.length === i + 2);
  }
  assert.deepEqual(pauses.map(Math.round), [2, 60, 120, 240]);
});

test('where a proxy gathers streams none is opened again, in the next page neither, until the network is another one', async (t) => {
  const stored = new Map();
  globalThis.sessionStorage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, value) => stored.set(key, value),
    removeItem: (key) => stored.delete(key),
  };
  t.after(() => delete globalThis.sessionStorage);
  const gathered = () => ({ 'GET /sse': () => {}, 'GET /poll': polls([CONNECTED]) });
  const first = await connected(gathered());
  await until(() => first.heard.length);
  assert.equal(stored.get('realtime-http'), 'poll');
  first.line.close();
  first.http.stop();
  const next = await connected(gathered());
  await until(() => next.heard.length);
  for (let i = 0; i < 2; i++) {
    await until(() => next.sockets.length > i);
    next.sockets[i].onclose({ code: 1006, reason: '' });
  }
  assert.equal(next.http.of('GET', '/sse').length, 0);
  await pass(1);
  online();
  next.sockets[2].onclose({ code: 1006, reason: '' });
  await until(() => next.http.of('GET', '/sse').length === 1);
  // It is the same one: nothing is heard.
  for (let i = 3; i < 6; i++) {
    await until(() => next.sockets.length > i);
    next.sockets[i].onclose({ code: 1006, reason: '' });
  }
  assert.deepEqual([next.http.of('GET', '/sse').length, stored.get('realtime-http')], [1, 'poll']);
});

test('a WebSocket whose first word is a refusal is left, and the stream stays', async () => {
  const client = await streaming();
  online();
  client.sockets[0].onmessage('{"type":"error","code":"token_invalid"}');
  await until(() => client.sockets[0].closed);
  client.says(data(1));
  await until(() => client.ids().length);
  assert.deepEqual(client.ends, []);
});

test('a WebSocket that is not answered is closed, and one is tried at a time', async () => {
  const client = await streaming();
  online();
  online();
  assert.equal(client.sockets.length, 1);
  await until(() => client.sockets[0].closed);
});

test('a client that its own attempt has replaced comes back', async () => {
  const client = await streaming();
  online();
  client.says({ type: 'error', code: 'replaced' });
  client.cut();
  await until(() => client.ends.length);
  assert.deepEqual(client.ends, [{ code: 1001, reason: 'websocket_found' }]);
  assert.ok(client.sockets[0].closed);
});

test('an error of long ago is not why it ends', async () => {
  const client = await streaming();
  client.says({ type: 'error', code: 'invalid_message' });
  client.says({ type: 'heartbeat' });
  await until(() => client.heard.length === 3);
  client.cut();
  await until(() => client.ends.length);
  assert.equal(client.ends[0].code, 1006);
});
