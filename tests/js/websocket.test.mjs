import assert from 'node:assert/strict';
import { test } from 'node:test';
import { webSocket } from '../../gateway/web/static/client/src/websocket.js';

function opened() {
  const told = [];
  const ends = [];
  let socket;
  const Socket = class {
    constructor() {
      socket = this;
    }
  };
  const transport = webSocket(Socket, 'ws://gateway', 'token', (works) => told.push(works));
  transport.onclose = (end) => ends.push(end);
  return { socket, told, ends };
}

test('an error before it was ever open is the end: Node 22 tells of no other', () => {
  const { socket, told, ends } = opened();
  socket.onerror({});
  socket.onclose({ code: 1006, reason: '' }); // everybody else does
  assert.deepEqual([told, ends], [[false], [{ code: 1006, reason: '' }]]);
});

test('an error of an open one is followed by its close, which says more', () => {
  const { socket, told, ends } = opened();
  socket.onopen();
  socket.onerror({});
  socket.onclose({ code: 1008, reason: 'flood' });
  assert.deepEqual([told, ends], [[true], [{ code: 1008, reason: 'flood' }]]);
});
