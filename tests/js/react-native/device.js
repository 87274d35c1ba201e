// What React Native gives to programs, as far as the client needs it; Hermes alone has little more than the language.
// Its shell calls timers at once, so time passes here by what is waited for.

globalThis.self = globalThis.window = globalThis;
globalThis.AbortController = require('abort-controller/dist/abort-controller').AbortController; // which React Native has, too
globalThis.queueMicrotask = (then) => void Promise.resolve().then(then);
globalThis.console = { error: (error) => print('error', String(error?.stack ?? error)) };

const soon = globalThis.setTimeout;
let now = 1e12;
let count = 0;
let waiting = [];
let running = false;

Date.now = () => now;

globalThis.setTimeout = (then, ms = 0) => {
  waiting.push({ due: now + Math.max(0, ms), id: ++count, then });
  run();
  return count;
};

globalThis.clearTimeout = (id) => {
  waiting = waiting.filter((each) => each.id !== id);
};

function run() {
  if (running) return;
  running = true;
  soon(() => {
    running = false;
    waiting.sort((a, b) => a.due - b.due || a.id - b.id);
    const next = waiting.shift();
    if (!next) return;
    now = Math.max(now, next.due);
    next.then();
    run();
  });
}
