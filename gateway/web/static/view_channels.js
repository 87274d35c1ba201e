// The channels with most subscriptions, and one channel: who is in it, and what becomes of its messages.

import { ask, pathOf, watch } from './api.js';
import { publishForm } from './actions.js';
import { arrange, batched, element, input, tag, time } from './elements.js';
import { happenings } from './happenings.js';
import { Lives } from './lives.js';
import { poll } from './polling.js';
import { cell, fill, head, table, tableBody } from './tables.js';
import { legend, lifeEntry } from './timeline.js';

const SHOWN = 50;
const RECENT_US = 600e6;
const HISTORY_MS = 250; // how often data of new messages is read

export function channelsView(_subject, { signal, state, failed }) {
  const body = tableBody();
  const start = input({ id: 'start', placeholder: 'run-results/session-123' });
  const form = element(
    'form',
    { id: 'channels-form', class: 'card' },
    element('label', { for: 'start' }, 'Channels that begin with this; or a whole name, to open it'),
    element('div', { class: 'row' }, start, element('button', {}, 'Open')),
  );
  const empty = element('p', { class: 'empty' }, 'Nobody is subscribed to such a channel just now.');
  empty.hidden = true;
  const look = async () => {
    const begin = start.value.trim();
    const { channels, missing } = await ask(`channels?${new URLSearchParams(begin ? { start: begin } : {})}`, { signal });
    if (begin !== start.value.trim()) return; // who types on is answered anew
    empty.hidden = channels.length > 0;
    fill(body, channels, (each) => each.channel, (each) => [
      head(link('channel', each.channel)),
      cell('Subscriptions', each.subscriptions.toLocaleString()),
      cell('Nodes', String(each.nodes)),
    ]);
    tellMissing(state, missing);
  };
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (start.value.includes('/')) location.hash = `#/channel/${encodeURIComponent(start.value.trim())}`;
  });
  start.addEventListener('input', () => look().catch(failed));
  poll(3000, signal, look, failed);
  return element(
    'section',
    { 'aria-labelledby': 'channels-title' },
    element('h2', { id: 'channels-title', class: 'title' }, 'Channels'),
    form,
    table('Channels with most subscriptions', ['Channel', 'Subscriptions', 'Nodes'], body),
    empty,
  );
}

export function link(view, subject) {
  return element('a', { href: `#/${view}/${encodeURIComponent(subject)}` }, subject);
}

export function tellMissing(state, missing) {
  if (missing.length === 0) state('connected', 'Connected');
  else state('waiting', `No answer from ${missing.join(', ')}`);
}

const STATES = { live: 'good', catching_up: 'late', joining: 'late', paused: 'late' };

export function standing(subscription) {
  return [
    cell('State', tag(subscription.state.replace('_', ' '), STATES[subscription.state])),
    cell('Sent up to', position(subscription.sent_up_to)),
    cell('Confirmed up to', position(subscription.confirmed_up_to)),
  ];
}

function position(id) {
  return id > 0 ? element('span', { class: 'position' }, time(id / 1000), element('code', {}, String(id))) : 'nothing yet';
}

// -- one channel ------------------------------------------------------------------------------

export function channelView(channel, { signal, state, failed }) {
  const lives = new Lives();
  const entries = new Map();
  const list = element('ol', { id: 'lives', class: 'lives' });
  const events = happenings('What happens in this channel', 'channel-events');
  const body = tableBody();
  const subscriptions = table('Subscriptions', ['User', 'Connection', 'State', 'Sent up to', 'Confirmed up to'], body);
  const count = element('span', {}, '');
  const toList = element('button', { type: 'button', class: 'quiet' }, 'Show them');
  toList.hidden = true;
  toList.addEventListener('click', () => subscriptions.scrollIntoView());
  const draw = batched(() => drawLives(lives, entries, list, (id, button) => showReceipts(channel, id, button)));
  const readNew = reader(channel, lives, draw, signal);

  poll(
    2000,
    signal,
    async () => {
      const told = await ask(`subscriptions/${pathOf(channel)}`, { signal });
      const where = told.nodes.map((each) => `${each.subscriptions} at ${each.node}`).join(', ');
      toList.hidden = told.count === 0;
      count.textContent = told.count === 0 ? 'Nobody is subscribed just now.' : `${told.count} subscribed: ${where}.`;
      fill(body, told.subscriptions, (each) => each.connection, (each) => [
        head(link('user', each.user)),
        cell('Connection', element('code', {}, each.connection)),
        ...standing(each),
      ]);
      tellMissing(state, told.missing);
    },
    failed,
  );
  watch(
    { channel },
    (happened) => {
      for (const event of happened) {
        lives.note(event);
        events.note(event);
      }
      if (happened.some((each) => each.kind === 'written' || each.kind === 'watching')) readNew();
      draw();
    },
    signal,
  ).catch(failed);

  return element(
    'section',
    { 'aria-labelledby': 'channel-title' },
    element('p', { class: 'above' }, element('a', { href: '#/channels' }, '← All channels')),
    element('h2', { id: 'channel-title', class: 'title name' }, channel),
    element('p', { class: 'hint', id: 'count' }, count, ' ', toList),
    element(
      'div',
      { class: 'columns' },
      element(
        'div',
        {},
        element('h3', {}, 'Messages of the last ten minutes'),
        legend(),
        element('p', { class: 'empty', id: 'no-lives' }, 'None in the last ten minutes. What is published now appears here, and what becomes of it.'),
        list,
      ),
      element(
        'div',
        {},
        publishForm(channel),
        element('section', { class: 'card' }, element('h3', {}, 'What happens'), events.log),
      ),
    ),
    subscriptions,
  );
}

function drawLives(lives, entries, list, receipts) {
  const shown = lives.newest(SHOWN);
  const ids = new Set(shown.map((each) => each.id));
  for (const id of entries.keys()) if (!ids.has(id)) entries.delete(id);
  const rows = shown.map((life) => {
    let row = entries.get(life.id);
    if (!row) entries.set(life.id, (row = lifeEntry(life, receipts)));
    else if (life.changed) row.draw();
    return row.entry;
  });
  arrange(list, rows);
}

/** Reads what the log has of messages that were written, now and then however many come. */
function reader(channel, lives, draw, signal) {
  let after = Math.round(Date.now() * 1000 - RECENT_US);
  let waits = false;
  const read = async () => {
    waits = false;
    try {
      for (let pages = 0; pages < 5; pages++) {
        const { messages, more } = await ask(`history/${pathOf(channel)}?after=${after}&limit=200`, { signal });
        for (const each of messages) lives.read(each);
        after = messages.at(-1)?.id ?? after;
        if (!more) break;
      }
      draw();
    } catch {
      // There is no log, or it cannot be read now: the messages are shown without their data.
    }
  };
  return () => {
    if (waits) return;
    waits = true;
    setTimeout(read, HISTORY_MS);
  };
}

async function showReceipts(channel, id, button) {
  let text;
  try {
    const { receipts, more } = await ask(`receipts/${pathOf(channel)}?message=${id}&limit=100`);
    text = receipts.length > 0 ? `Confirmed by ${receipts.map((each) => each.user).join(', ')}${more ? ' and more' : ''}` : 'Nobody has confirmed it yet';
  } catch (error) {
    text = error.message;
  }
  button.textContent = text;
}
