// The HTTP API as the console asks it: with the key that its user has typed, which stays in this tab.

const STORED = 'gateway-console-key';

/** What the API has refused, or that it could not be reached (`status` 0). */
export class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

let key = sessionStorage.getItem(STORED);

/** Take a key for this tab; none to forget it. */
export function useKey(given) {
  key = given;
  if (given) sessionStorage.setItem(STORED, given);
  else sessionStorage.removeItem(STORED);
}

/** Take the key of `#key=…&view=…`, as `make run` prints it and the test page leads here. Only the view stays in the address. */
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.get('key')) return false;
  useKey(given.get('key'));
  history.replaceState(null, '', `#${given.get('view') ?? '/nodes'}`);
  return true;
}

/** Whether there is a key. */
export function hasKey() {
  return Boolean(key);
}

/** Ask; gives the JSON of the answer. */
export async function ask(path, { method = 'GET', body, headers = {}, signal } = {}) {
  const answer = await request(path, {
    method,
    signal,
    headers: body === undefined ? headers : { ...headers, 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return answer.status === 204 ? null : answer.json();
}

/** Hear what happens, a list of events at a time, until `signal` ends it; a connection that breaks is made again. */
export async function watch(query, hear, signal) {
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10_000)) {
    try {
      for await (const events of lines(`watch?${new URLSearchParams(query)}`, signal)) {
        pause = 500;
        hear(events);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status >= 400 && error.status < 500) throw error;
    }
    hear([{ kind: 'interrupted' }]);
    await new Promise((done) => setTimeout(done, pause));
  }
}

async function* lines(path, signal) {
  const answer = await request(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const found = (rest + value).split('\n');
    rest = found.pop();
    const events = found.filter(Boolean).map((line) => JSON.parse(line));
    const problem = events.find((each) => !each.kind);
    if (problem) throw new Refused(problem.status, problem.code, problem.detail);
    if (events.length > 0) yield events;
  }
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(address(`v1/${path}`), {
      ...options,
      cache: 'no-store',
      credentials: 'omit',
      headers: { ...options.headers, Authorization: `Bearer ${key}` },
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refused(0, 'unreachable', 'The gateway does not answer.');
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  // The API answers with a problem; what never reaches it is refused as everywhere.
  const problem = told.error ?? told;
  throw new Refused(answer.status, problem.code ?? 'error', problem.detail ?? problem.message ?? answer.statusText);
}

// Relative to the page, which may stand below a path of a proxy.
function address(path) {
  return new URL(path, document.baseURI);
}

/** A channel as a part of a path. */
export function pathOf(channel) {
  const cut = channel.indexOf('/');
  return `${encodeURIComponent(channel.slice(0, cut))}/${encodeURIComponent(channel.slice(cut + 1))}`;
}
