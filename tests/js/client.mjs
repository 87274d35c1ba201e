// The JavaScript client as it is served, on Node with the package `ws`, told what to do by lines of JSON.
//
// Usage: node client.mjs MODULE URL TOKENS [OPTIONS]
//
// TOKENS: separated by commas, one for each time one is asked for; the last one for all that follow. OPTIONS: JSON.
// With BARE in the environment it finds as little as on React Native.
// A callback fails for data that is "fail", and with `slow` it waits until the command `go` comes.

import { pathToFileURL } from 'node:url';
import WS from 'ws';
import { obey, report } from './tap.mjs';

const [module, url, given, options = '{}'] = process.argv.slice(2);

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

const rt = new Realtime(url, { token, WebSocket: globalThis.WebSocket ?? WS, ...JSON.parse(options) });
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
  wake: () => rt.wake(),
  connect: () => rt.connect(),
  close: () => rt.close(),
  timers: () =>
    setImmediate(() => {
      const count = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
      report('timers', { count });
    }),
});
