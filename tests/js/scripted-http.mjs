// An HTTP server that answers as a test has it, and a clock that runs faster for the client than for the network.

import { createServer } from 'node:http';

export const SPEED = 20;

const now = Date.now;
const begun = now();
const wait = globalThis.setTimeout;
const waiting = new Set();

/** Let the client's seconds be shorter; `waiting` has its timers. What Node itself waits for stays as it is. */
export function hurry() {
  Date.now = () => begun + (now() - begun) * SPEED;
  globalThis.setTimeout = (then, ms, ...given) => {
    const run = () => {
      waiting.delete(timer);
      then(...given);
    };
    const timer = wait(run, ms / SPEED);
    waiting.add(timer);
    return timer;
  };
  const clear = globalThis.clearTimeout;
  globalThis.clearTimeout = (timer) => {
    waiting.delete(timer);
    clear(timer);
  };
  return waiting;
}

/** Wait until a condition holds. */
export async function until(holds) {
  for (const end = now() + 5_000; !holds(); await new Promise((resolve) => wait(resolve, 2))) {
    if (now() > end) throw new Error(`it never held: ${holds}`);
  }
}

/** So many of the client's milliseconds. */
export const pass = (ms) => new Promise((resolve) => wait(resolve, ms / SPEED));

/**
 * What has been `asked`: `{ method, path, query, token, said, gone }` each. `answers` are functions of a request and its
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
    const [, first] = url.pathname.split('/');
    const asked = { method: request.method, path: `/${first}`, query: Object.fromEntries(url.searchParams), gone: false };
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
