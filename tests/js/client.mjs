// The JavaScript client as it is served, on Node with the package `ws`, told what to do by lines of JSON.
//
// Usage: node client.mjs MODULE URL TOKENS [OPTIONS]
//
// URL: of a gateway, or `mock` for the one that the package has for tests; that is told `publish`, `disconnect`, `forbid`, `grant`.
// TOKENS: separated by commas, one for each time one is asked for; the last one for all that follow. OPTIONS: JSON.
// With BARE in the environment it finds as little as on React Native.
// A callback fails for data that is "fail", and with `slow` it waits until the command `go` comes.

import { pathToFileURL } from 'node:url';
import WS from 'ws';
import { obey, report, tapped } from './tap.mjs';

const [module, url, given, options = '{}'] = process.argv.slice(2);

const { mockRealtime } = await import(new URL('./client/mock.js', pathToFileURL(module)));
const mock = mockRealtime();

// What a page is told by its browser.
const page = new EventTarget();
const online = new Event('online');
globalThis.addEventListener = page.addEventListener.bind(page);
globalThis.removeEventListener = page.removeEventListener.bind(page);

// React Native has none of these.
if (process.env.BARE) for (const name of ['EventTarget', 'CustomEvent', 'URL', 'reportError', 'location']) delete globalThis[name];

const { Realtime } = await import(pathToFileURL(module));

const tokens = given.split(',');
async function token() {
  report('asked');
  const next = tokens.length > 1 ? tokens.shift() : tokens[0];
  if (next === 'FAIL') throw new Error('no login');
  return next;
}

console.error = (error) => report('reported', { text: String(error?.message ?? error) });

const own = url === 'mock' ? { ...mock.options, WebSocket: tapped(mock.WebSocket) } : { WebSocket: globalThis.WebSocket ?? WS };
const rt = new Realtime(url === 'mock' ? mock.url : url, { ...own, token, ...JSON.parse(options) });
rt.addEventListener('state', ({ detail }) => report('state', detail));
rt.addEventListener('gap', ({ detail }) => report('gap', detail));
rt.addEventListener('error', ({ detail }) => report('error', { error: detail }));

const handles = new Map();
const waiting = [];

function subscribe({ name = 'a', channel, slow, ...options }) {
  const callback = async (data, { id }) => {
    report('data', { name, channel, data, id });
    if (slow) await new Promise((resolve) => waiting.push(resolve));
    if (data === 'fail') throw new Error('the callback fails');
  };
  // Without `ack` a callback that fails does so at once, as most do.
  const plain = (data, { id }) => {
    report('data', { name, channel, data, id });
    if (data === 'fail') throw new Error('the callback fails');
  };
  const onGap = () => report('own-gap', { name });
  const onError = ({ code }) => report('own-error', { name, code });
  handles.set(name, rt.subscribe(channel, options.ack || slow ? callback : plain, { ...options, onGap, onError }));
}

async function loop({ name = 'loop', channel, count, slow, ...options }) {
  try {
    for await (const { data, id } of rt.channel(channel, options)) {
      report('data', { name, channel, data, id });
      if (slow) await new Promise((resolve) => waiting.push(resolve));
      if (--count === 0) break;
    }
    report('loop-end', { name });
  } catch (error) {
    report('loop-error', { name, kind: error.name, code: error.code, channel: error.channel });
  }
}

await obey({
  subscribe,
  loop,
  unsubscribe: ({ name = 'a' }) => handles.get(name).unsubscribe(),
  go: ({ count = 1 }) => waiting.splice(0, count).forEach((resolve) => resolve()),
  user: () => report('user', { user: rt.userId, state: rt.state }),
  publish: ({ channel, data }) => mock.publish(channel, data),
  disconnect: ({ code, reason }) => mock.disconnect(code, reason),
  forbid: ({ channel }) => mock.forbid(channel),
  grant: ({ channel }) => mock.grant(channel),
  online: () => page.dispatchEvent(online),
  wake: () => rt.wake(),
  connect: () => rt.connect(),
  close: () => rt.close(),
  timers: () =>
    setImmediate(() => {
      const count = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
      report('timers', { count });
    }),
});
