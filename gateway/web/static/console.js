// The console: which view is shown, whether there is a key, and how the gateway is reached.

import { Refused, ask, hasKey, takeKeyFromAddress, useKey } from './api.js';
import { actView } from './view_act.js';
import { channelView, channelsView } from './view_channels.js';
import { nodesView } from './view_nodes.js';
import { userView, usersView } from './view_users.js';

const $ = (id) => document.getElementById(id);
const VIEWS = { nodes: nodesView, channels: channelsView, channel: channelView, users: usersView, user: userView, act: actView };
const TABS = { channel: 'channels', user: 'users' };

let leaving = new AbortController();

/** `#/channel/<name>`: the view, and what it is about. */
function place() {
  const [, name = 'nodes', ...rest] = location.hash.split('/');
  const view = Object.hasOwn(VIEWS, name) ? name : 'nodes';
  let subject = '';
  try {
    subject = decodeURIComponent(rest.join('/'));
  } catch {
    // An address that somebody has cut off.
  }
  return { view, subject };
}

function show({ focus }) {
  leaving.abort();
  leaving = new AbortController();
  const { view, subject } = place();
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#/${TABS[view] ?? view}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const made = VIEWS[view](subject, { signal: leaving.signal, state, failed });
  $('view').replaceChildren(made);
  document.title = `${made.querySelector('h2')?.textContent ?? view} – gateway console`;
  // So that who uses a keyboard or hears the page is where the new view begins.
  if (focus) $('view').focus({ preventScroll: true });
  scrollTo(0, 0);
}

function state(name, text) {
  document.body.dataset.state = name;
  if ($('state').textContent !== text) $('state').textContent = text;
}

/** What a view could not read; without a key that counts the console asks for one. */
function failed(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 401) askForKey(error.message);
  else state('closed', error.status === 0 ? 'The gateway does not answer' : error.message);
}

function askForKey(problem = '') {
  leaving.abort();
  document.querySelector('nav').hidden = true;
  $('forget').hidden = true;
  state('idle', 'No key');
  $('view').replaceChildren($('key-view').content.cloneNode(true));
  $('key-problem').textContent = problem;
  $('key-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    useKey($('key').value.trim());
    try {
      await ask('nodes');
      begin();
    } catch (error) {
      useKey(null);
      $('key').setAttribute('aria-invalid', 'true');
      $('key-problem').textContent = error.message;
    }
  });
  $('key').focus();
}

function begin() {
  document.querySelector('nav').hidden = false;
  $('forget').hidden = false;
  state('connecting', 'Connecting…');
  show({ focus: false });
}

$('forget').addEventListener('click', () => {
  useKey(null);
  askForKey();
});
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  $('view').focus();
});
addEventListener('hashchange', () => {
  if (takeKeyFromAddress()) begin();
  else if (!document.querySelector('nav').hidden) show({ focus: true });
});

takeKeyFromAddress();
if (hasKey()) begin();
else askForKey();
