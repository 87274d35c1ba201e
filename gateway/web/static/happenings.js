// What happens, a line each: the newest first, and no more of them than anybody reads.

import { batched, element, time } from './elements.js';

const MOST = 200;

const WORDS = {
  watching: () => 'watching',
  interrupted: () => 'the connection to the gateway broke; it is made again',
  connected: (each) => `${each.user} connected: ${each.connection}`,
  disconnected: (each) => `${each.user} disconnected: ${each.connection}`,
  subscribed: (each) => `${each.connection} subscribed to ${each.channel}`,
  unsubscribed: (each) => `${each.connection} left ${each.channel}`,
  replayed: (each) => `${each.messages} missed ${each.messages === 1 ? 'message' : 'messages'} of ${each.channel} replayed to ${each.connection}`,
  confirmed: (each) => `${each.connection} has everything in ${each.channel} up to ${each.up_to}`,
  lost: (each) => `${each.user} has lost messages of ${each.channel}: they were gone before they could be delivered`,
  not_watched: (each) => `${each.node} has as many watches as it may: what happens there is not shown`,
  left_out: (each) => `${each.events} more happened than are shown`,
};

/** A list of what happens, and what adds to it. */
export function happenings(title, id) {
  const list = element('ol', {});
  const log = element('div', { id, class: 'happenings', role: 'log', 'aria-label': title, 'aria-live': 'off', tabindex: '0' }, list);
  let waiting = [];
  const draw = batched(() => {
    const fresh = waiting.slice(-MOST).reverse();
    waiting = [];
    list.prepend(...fresh.map(line));
    while (list.children.length > MOST) list.lastElementChild.remove();
  });
  return {
    log,
    note(event) {
      if (!Object.hasOwn(WORDS, event.kind)) return;
      waiting.push(event);
      if (waiting.length > 2 * MOST) waiting = waiting.slice(-MOST);
      draw();
    },
  };
}

function line(event) {
  return element(
    'li',
    { class: 'line', 'data-kind': event.kind },
    element('span', { class: 'line-text' }, WORDS[event.kind](event)),
    time(event.at ? event.at / 1000 : Date.now()),
  );
}
