// The life of a message as it is shown: a line of what is known, a picture of it, and its steps.

import { cut, element, svg, tag, time } from './elements.js';
import { steps, summary } from './lives.js';

const PREVIEW_CHARACTERS = 200;
const SHOWN_CHARACTERS = 4000;
const MOST_STEPS = 60;
const WIDTH = 1000;

const WORDS = {
  published: () => 'published',
  received: ({ node }) => `received by ${node}`,
  written: ({ node, receivers }) => `written by ${node} to ${connections(receivers)}`,
  replayed: ({ connection, user }) => `replayed to ${user} on ${connection}`,
  confirmed: ({ connection, user }) => `confirmed by ${user} on ${connection}`,
};

const COLOURS = { published: 'published', received: 'received by a gateway', written: 'written or replayed', confirmed: 'confirmed' };

/** What the colours of the pictures stand for. */
export function legend() {
  const kinds = Object.entries(COLOURS).map(([kind, words]) => element('span', { 'data-kind': kind }, element('span', {}, words)));
  return element('p', { class: 'hint colours' }, ...kinds);
}

function connections(count) {
  return count === 1 ? '1 connection' : `${count.toLocaleString()} connections`;
}

/** A duration, of microseconds. */
function lasted(microseconds) {
  const ms = microseconds / 1000;
  if (ms >= 10_000) return `${(ms / 1000).toFixed(0)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 100 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
}

/** An element for a life, and what draws it again. `receipts` asks who has confirmed a message of which nothing else is known. */
export function lifeEntry(life, receipts) {
  const outcome = element('p', { class: 'outcome' });
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} 24`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  const list = element('ol', { class: 'steps' });
  const preview = element('p', { class: 'preview' });
  const payload = element('pre', { class: 'raw', tabindex: '0', 'aria-label': 'Data' }, '…');
  const asked = element('button', { type: 'button', class: 'quiet' }, 'Who has confirmed it?');
  asked.addEventListener('click', () => receipts(life.id, asked));
  const entry = element(
    'li',
    { class: 'entry life', 'data-id': life.id },
    element('div', { class: 'entry-head' }, element('strong', {}, `Message ${life.id}`), time(life.id / 1000)),
    preview,
    outcome,
    picture,
    element('details', {}, element('summary', {}, 'Steps and data'), list, payload, asked),
  );
  const draw = () => {
    const told = summary(life);
    outcome.replaceChildren(...words(told));
    entry.dataset.confirmed = told.confirmed;
    const found = steps(life);
    list.replaceChildren(...found.slice(0, MOST_STEPS).map((step) => stepEntry(step, life.id)));
    if (found.length > MOST_STEPS) list.append(element('li', {}, `… and ${found.length - MOST_STEPS} more`));
    drawPicture(picture, found);
    if (life.data) {
      preview.textContent = JSON.stringify(life.data.value).slice(0, PREVIEW_CHARACTERS);
      payload.textContent = cut(JSON.stringify(life.data.value, null, 2), SHOWN_CHARACTERS);
    }
    life.changed = false;
  };
  draw();
  return { entry, draw };
}

function words({ receivers, confirmed, replayed, written, complete }) {
  const unseen = replayed ? 'replayed' : 'published before this page looked';
  if (written === undefined && confirmed === 0) return [tag('retained'), ` ${unseen}`];
  const sent = written === undefined ? unseen : `written to ${connections(receivers)} after ${lasted(written)}`;
  if (receivers === 0) return [tag('nobody there', 'late'), ' kept for those who come'];
  const all = confirmed >= receivers;
  return [
    tag(`confirmed by ${confirmed} of ${receivers}`, all ? 'good' : 'late'),
    ` ${sent}${complete === undefined ? '' : `, confirmed after ${lasted(complete)}`}`,
  ];
}

function stepEntry(step, published) {
  return element(
    'li',
    { 'data-kind': step.kind },
    element('span', { class: 'after' }, step.kind === 'published' ? '0 ms' : `+${lasted(Math.max(0, step.at - published))}`),
    element('span', {}, WORDS[step.kind](step)),
  );
}

// The first milliseconds would be one dot beside a second of waiting, so the scale is logarithmic from a tenth of a millisecond on.
function drawPicture(picture, found) {
  const from = found[0].at;
  const place = (at) => Math.log10(1 + Math.max(0, at - from) / 100);
  const whole = Math.max(place(found.at(-1).at), 1);
  const dots = found.slice(0, 200).map((step) => {
    const x = 8 + (place(step.at) / whole) * (WIDTH - 16);
    return svg('line', { x1: x, x2: x, y1: 4, y2: 20, class: step.kind });
  });
  picture.replaceChildren(svg('line', { x1: 8, x2: WIDTH - 8, y1: 12, y2: 12, class: 'axis' }), ...dots);
}
