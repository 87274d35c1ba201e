// What the page shows of each message.

import { element, tag, time } from './elements.js';

/** A data message: a run result, a notification, or anything else a channel carries. `life` is where the console shows what becomes of it. */
export function dataEntry(message, { late, repeated, life }) {
  return element(
    'li',
    { class: 'entry', 'data-type': message.type, 'data-id': message.id ?? '' },
    element(
      'div',
      { class: 'entry-head' },
      element('strong', {}, message.channel),
      late && tag('caught up', 'late'),
      repeated && tag('repeated', 'late'),
      life && element('a', { class: 'follow', href: life }, 'Its life'),
      time(message.timestamp),
    ),
    body(message),
    element(
      'details',
      {},
      element('summary', {}, 'JSON'),
      element('pre', { class: 'raw' }, JSON.stringify(message, null, 2)),
    ),
  );
}

// A publisher may send what it likes: only what has the shape of the contract is shown as such.
function body({ type, data }) {
  if (type === 'run-results' && typeof data?.exitCode === 'number') return runResult(data);
  if (type === 'notifications' && typeof data?.title === 'string') return notification(data);
  return element('pre', { class: 'anything' }, JSON.stringify(data, null, 2));
}

function runResult(data) {
  const silent = !data.stdout && !data.stderr;
  return element(
    'div',
    { class: 'terminal' },
    element(
      'pre',
      { tabindex: '0', 'aria-label': 'Output' },
      data.stdout && element('span', { class: 'stdout' }, ended(data.stdout)),
      data.stderr && element('span', { class: 'stderr' }, data.stderr),
      silent && element('span', { class: 'silent' }, 'no output'),
    ),
    element(
      'p',
      { class: 'ending' },
      tag(`exit ${data.exitCode}`, data.exitCode === 0 ? 'good' : 'bad'),
      element('span', {}, duration(data.duration)),
      data.stderr && element('span', { class: 'legend' }, 'stderr'),
    ),
  );
}

// So that what went to stderr begins on a line of its own.
function ended(text) {
  return String(text).replace(/\n?$/, '\n');
}

function duration(ms) {
  return ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms} ms`;
}

function notification(data) {
  const more = [data.action, data.requestId].filter((value) => value !== undefined);
  return element(
    'div',
    { class: 'notification' },
    element('h3', {}, data.title),
    element('p', {}, String(data.message ?? '')),
    more.length > 0 && element('p', { class: 'more' }, ...more.map((value) => tag(value))),
  );
}

/** An `error` message, and what the page itself says to it, if anything. */
export function errorEntry(message, advice) {
  return element(
    'li',
    { class: 'entry error', 'data-type': 'error', 'data-code': message.code ?? '' },
    element(
      'div',
      { class: 'entry-head' },
      tag(message.code ?? 'error', 'bad'),
      element('strong', {}, message.message),
      time(Date.now()),
    ),
    message.channel && element('p', {}, element('code', {}, message.channel)),
    message.detail && element('p', {}, message.detail),
    advice && element('p', {}, advice),
  );
}

/** One line of the protocol. `sign`: → sent, ← received, × closed. */
export function protocolEntry(sign, text, type) {
  return element(
    'li',
    { class: 'line', 'data-type': type },
    element('span', { class: 'sign', 'aria-hidden': 'true' }, sign),
    element('span', { class: 'line-text' }, text),
    time(Date.now()),
  );
}
