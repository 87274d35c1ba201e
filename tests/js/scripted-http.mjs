// An HTTP server that answers as a test has it, and a clock that does not go while the client or the network has something to do.

import { createServer } from 'node:http';

const wait = globalThis.setTimeout;
const timers = new Set();
const TURNS = 30;

let now = Date.now();

/**
 * Give the client a clock on which a test waits: it goes from timer to timer, however slow the machine is. Returns the timers.
 * What Node itself waits for stays as it is.
 */
export function ownClock() {
  Date.now = () => now;
  globalThis.setTimeout = (then, ms, ...given) => {
    if (new Error().stack.includes('node:internal/deps')) return wait(then, ms, ...given);
    const timer = { at: now + Math.max(ms, 0), run: () => then(...given) };
    timers.add(timer);
    return timer;
  };
  const clear = globalThis.clearTimeout;
  globalThis.clearTimeout = (timer) => timers.delete(timer) || clear(timer);
  return timers;
}

/** Wait until a condition holds. */
export async function until(holds) {
  const end = process.hrtime.bigint() + 10_000_000_000n;
  while (!(await settled(holds))) {
    const next = [...timers].reduce((first, each) => (first && first.at <= each.at ? first : each), undefined);
    if (process.hrtime.bigint() > end) throw new Error(`it never holds: ${holds}`);
    if (!next) continue;
    timers.delete(next);
    now = Math.max(now, next.at);
    next.run();
  }
}

/** So many of the client's milliseconds. */
export const pass = async (ms) => {
  let over = false;
  globalThis.setTimeout(() => (over = true), ms);
  await until(() => over);
};

/** Whether it holds before there is nothing left to do: bytes to this same process take a few turns of the loop. */
async function settled(holds) {
  for (let turns = 0; turns < TURNS; turns++) {
    if (holds()) return true;
    await new Promise((resolve) => (turns % 10 ? setImmediate(resolve) : wait(resolve, 1)));
  }
  return holds();
}

/**
 * What has been `asked`: `{ method, path, name, query, token, said, gone }` each. `answers` are functions of a request and its
 * response by `GET /sse` and so on; without one for it a request stays without an answer.
 */
export class ScriptedHttp {
  asked = [];

  constructor(answers) {
    this.answers = answers;
  }

  async start() {
    this.server = createServer((request, response) => this.#serve(request, response));
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `ws://127.0.0.1:${this.server.address().port}/ws`;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  of(method, path) {
    return this.asked.filter((each) => each.method === method && each.path === path);
  }

  async #serve(request, response) {
    const url = new URL(request.url, 'http://gateway');
    const [, first, name] = url.pathname.split('/');
    const asked = { method: request.method, path: `/${first}`, name, query: Object.fromEntries(url.searchParams), gone: false };
    asked.token = request.headers.authorization?.replace('Bearer ', '');
    let body = '';
    for await (const part of request) body += part;
    asked.said = body ? JSON.parse(body) : undefined;
    this.asked.push(asked);
    response.on('close', () => (asked.gone = true));
    this.answers[`${asked.method} ${asked.path}`]?.(response, asked);
  }
}

export const json = (response, value, status = 200) => {
  response.writeHead(status, { 'Content-Type': 'application/json', Connection: 'close' }).end(JSON.stringify(value));
};

/** Begin an event stream, with these messages. */
export const stream = (response, ...messages) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
  for (const each of messages) tell(response, each);
};

export const tell = (response, message) => response.write(`data: ${JSON.stringify(message)}\n\n`);

export const CONNECTED = { type: 'connected', userId: 'ann', stream: 'name', poll: 'name' };
export const data = (id) => ({ type: 'news', channel: 'news/1', data: id, id });
