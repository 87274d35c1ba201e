import assert from 'node:assert/strict';
import { test } from 'node:test';
import { share } from '../../gateway/web/static/client/src/share.js';

const TOKEN = `x.${Buffer.from('{"sub":"ann"}').toString('base64url')}.x`;

test('a browser that refuses to let tabs speak with each other has a connection for each', (t) => {
  const set = (name, value) => {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  };
  set('navigator', { locks: {} });
  set('BroadcastChannel', function () {
    throw new DOMException('The operation is insecure.', 'SecurityError');
  });
  const own = {};
  assert.equal(share('ws://gateway', TOKEN, (token) => token === TOKEN && own), own);
});
