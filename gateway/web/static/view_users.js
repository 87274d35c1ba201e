// A user: the connections, what each is subscribed to and how far it is, and what happens to them.

import { ask, watch } from './api.js';
import { disconnectButton } from './actions.js';
import { arrange, element, input, tag, time } from './elements.js';
import { happenings } from './happenings.js';
import { poll } from './polling.js';
import { head, table, tableBody } from './tables.js';
import { link, standing, tellMissing } from './view_channels.js';

export function usersView(_subject, { state }) {
  state('connected', 'Connected');
  const user = input({ id: 'user', placeholder: 'user-123', required: '' });
  const form = element(
    'form',
    { id: 'user-form', class: 'card narrow' },
    element('label', { for: 'user' }, 'The user’s id, as tokens have it'),
    element('div', { class: 'row' }, user, element('button', { class: 'primary' }, 'Look')),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    location.hash = `#/user/${encodeURIComponent(user.value.trim())}`;
  });
  return element('section', { 'aria-labelledby': 'users-title' }, element('h2', { id: 'users-title', class: 'title' }, 'Users'), form);
}

export function userView(user, { signal, state, failed }) {
  const cards = element('div', { id: 'connections', class: 'connections' });
  const none = element('p', { class: 'empty' }, 'No connection just now.');
  none.hidden = true;
  const events = happenings('What happens to this user', 'user-events');
  const known = new Map();
  const look = async () => {
    const { connections, missing } = await ask(`users/${encodeURIComponent(user)}`, { signal });
    none.hidden = connections.length > 0;
    const there = new Set(connections.map((each) => each.connection));
    for (const name of known.keys()) if (!there.has(name)) known.delete(name);
    for (const each of connections) {
      if (!known.has(each.connection)) known.set(each.connection, connectionCard(user, each.connection));
      known.get(each.connection).draw(each);
    }
    arrange(cards, [...known.values()].map((card) => card.element));
    tellMissing(state, missing);
  };
  poll(2000, signal, look, failed);
  watch(
    { user },
    (happened) => {
      for (const event of happened) events.note(event);
      // What came or went is looked at now, not two seconds later.
      if (happened.some((each) => each.kind.endsWith('connected'))) look().catch(failed);
    },
    signal,
  ).catch(failed);
  return element(
    'section',
    { 'aria-labelledby': 'user-title' },
    element('p', { class: 'above' }, element('a', { href: '#/users' }, '← Another user')),
    element('h2', { id: 'user-title', class: 'title name' }, user),
    element('p', { class: 'hint' }, 'Their own channel: ', link('channel', `notifications/${user}`)),
    element(
      'div',
      { class: 'columns' },
      element('div', {}, element('h3', {}, 'Connections'), none, cards, disconnectButton(user)),
      element('section', { class: 'card' }, element('h3', {}, 'What happens'), events.log),
    ),
  );
}

function connectionCard(user, name) {
  const facts = element('p', { class: 'hint' });
  const body = tableBody();
  const card = element(
    'section',
    { class: 'card connection', 'data-connection': name, 'aria-label': `Connection ${name}` },
    element('div', { class: 'entry-head' }, element('strong', { class: 'name' }, name), disconnectButton(user, name)),
    facts,
    table(`Subscriptions of ${name}`, ['Channel', 'State', 'Sent up to', 'Confirmed up to'], body),
  );
  let before = '';
  return {
    element: card,
    draw(told) {
      if (before === (before = JSON.stringify(told))) return;
      facts.replaceChildren(
        'Since ',
        time(told.connected_at),
        `. ${told.untaken_bytes > 0 ? `${told.untaken_bytes.toLocaleString()} bytes wait to be taken. ` : ''}`,
        ...(told.behind ? [tag('too slow for live delivery', 'late')] : []),
        ...(told.count > told.subscriptions.length ? [`${told.count} subscriptions, of which the first are shown.`] : []),
      );
      body.replaceChildren(
        ...told.subscriptions.map((each) => element('tr', { role: 'row' }, head(link('channel', each.channel)), ...standing(each))),
      );
    },
  };
}
