import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choosing } from '../../gateway/web/static/client/src/choosing.js';

/** How clients connect, and what was tried: `fail()` ends the last handshake, `opens` counts WebSockets. */
function tried(fallback) {
  const sockets = [];
  const Socket = class {
    constructor() {
      sockets.push(this);
    }
  };
  const open = choosing(Socket, fallback);
  const fail = () => sockets.at(-1).onclose({ code: 1006, reason: '' });
  return { open: () => open('ws://gateway', 'token'), fail, sockets };
}

test('where the module for HTTP cannot be loaded WebSockets are tried all the same', async () => {
  const { open, fail, sockets } = tried(true); // there is no such module beside the source
  for (let i = 0; i < 2; i++) {
    await open();
    fail();
  }
  await assert.rejects(open);
  await open();
  assert.equal(sockets.length, 3);
});

test('after a WebSocket was found the next attempt is one, too', async () => {
  let overHttp = 0;
  let other;
  const Fallback = class {
    constructor(openSocket, told) {
      Object.assign(this, { openSocket, told });
      other = this;
    }
    open() {
      overHttp++;
    }
    get hasSocket() {
      return this.spare !== undefined;
    }
    takeSocket() {
      this.spare = undefined;
    }
  };
  const { open, fail, sockets } = tried(Fallback);
  for (let i = 0; i < 2; i++) {
    await open();
    fail();
  }
  await open();
  other.spare = other.openSocket();
  sockets.at(-1).onopen();
  other.told(true); // the stream ends
  await open();
  await open();
  assert.deepEqual([overHttp, sockets.length], [1, 4]);
});
