import { adviceOn } from './advice.js';
import { Connection, shouldReconnect } from './connection.js';
import { element } from './elements.js';
import { dataEntry, errorEntry, protocolEntry } from './entries.js';

const MAX_ENTRIES = 500;

const $ = (id) => document.getElementById(id);

const STATES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  connected: 'Connected',
  waiting: 'Reconnecting…',
  closed: 'Closed',
};

// A message that could not be read: its error may name no channel, and asking again would not help.
const UNREADABLE = new Set(['invalid_message', 'message_too_large', 'invalid_channel']);

let connection;
let connectedAt = 0;
let heartbeatAt;
let newest = new Map(); // channel → id of its newest message
let channels = new Map(); // channel → its state, as the list shows it

// -- the connection ---------------------------------------------------------------------------

function connect(token) {
  connection?.close();
  if (connection?.token !== token) {
    channels = new Map();
    newest = new Map();
    showChannels();
    $('user').textContent = '–';
  }
  $('token').value = token;
  // The page stands beside the WebSocket, also where GATEWAY_PATH has put both.
  const address = new URL('./', location.href);
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  // So that ?batch=true on the page's own address reaches the gateway.
  address.search = location.search;
  $('address').textContent = address.href.replace(/\/$/, '');
  const current = new Connection(address, token, {
    // An earlier connection, still closing, has nothing to say here.
    state: (name, details) => current === connection && showState(name, details),
    received: (message) => current === connection && receive(message),
    sent: (message) => current === connection && showSent(message),
    closed: (code, reason) => current === connection && showClosing(code, reason),
  });
  connection = current;
  current.open();
}

function showState(name, details) {
  document.body.dataset.state = name;
  $('state').textContent = STATES[name];
  $('heartbeat').disabled = name !== 'connected';
  $('kept').disabled = name !== 'connected';
  showButtons();
  $('retry').hidden = name !== 'waiting';
  if (name === 'connected') {
    connectedAt = Date.now();
    $('closing').hidden = true;
    $('compression').textContent = details.compression ? 'negotiated' : 'off';
  } else {
    heartbeatAt = undefined;
    $('round-trip').textContent = '–';
    $('compression').textContent = '–';
  }
  if (name === 'waiting') {
    const { delay, attempt } = details;
    $('retry-text').textContent = `Attempt ${attempt}, after ${delay / 1000} s`;
  }
}

function showButtons() {
  const active = !['idle', 'closed'].includes(document.body.dataset.state);
  $('connect').hidden = active && $('token').value === connection.token;
  $('disconnect').hidden = !active;
}

function showClosing(code, reason) {
  $('closing').hidden = false;
  $('closing').dataset.code = code;
  $('closing-code').textContent = `Closed ${code}`;
  $('closing-reason').textContent = reason;
  $('closing-advice').textContent = adviceOn(reason) ?? meaningOf(code);
  for (const [name, state] of channels) {
    if (state === 'subscribed' || state === 'asked') channels.set(name, 'wanted');
  }
  showChannels();
  show(protocolEntry('×', `closed ${code} ${reason}`, 'closed'));
}

function meaningOf(code) {
  if (code === 1000) return 'Closed in order.';
  if (code === 1006) return 'The connection broke, or was refused before it opened.';
  return shouldReconnect(code, '') ? '' : 'Connecting again would not help.';
}

// -- what comes in ----------------------------------------------------------------------------

function receive(message) {
  const { type, channel } = message;
  switch (type) {
    case 'connected':
      show(protocolEntry('←', `connected as ${message.userId}`, type));
      showUser(message.userId);
      $('state').textContent = `Connected as ${message.userId}`;
      showCommands(message.userId);
      subscribeAll(message.userId);
      break;
    case 'subscribed':
      show(protocolEntry('←', `subscribed ${channel}`, type));
      if (message.recovered === false) {
        show(protocolEntry('!', `${channel}: some messages were gone before they could be delivered`, 'lost'));
      }
      setChannel(channel, 'subscribed');
      break;
    case 'unsubscribed':
      show(protocolEntry('←', `unsubscribed ${channel} ${message.reason ?? ''}`, type));
      if (message.reason) setChannel(channel, message.reason);
      else dropChannel(channel);
      break;
    case 'granted':
      show(protocolEntry('←', `granted ${channel}`, type));
      if (channels.has(channel)) subscribe(channel);
      break;
    case 'heartbeat':
      showRoundTrip();
      show(protocolEntry('←', 'heartbeat', type));
      break;
    case 'error':
      show(errorEntry(message, adviceOn(message.code)));
      showRefusal(message);
      break;
    default:
      receiveData(message);
  }
}

function showUser(user) {
  const address = inConsole('user', user);
  $('user').replaceChildren(address ? element('a', { href: address }, user) : user);
}

function showRefusal({ code = 'error', channel }) {
  const asked = [...channels.keys()].filter((name) => channels.get(name) === 'asked');
  if (asked.includes(channel)) setChannel(channel, code);
  else if (asked.length > 0 && UNREADABLE.has(code)) setChannel(asked.at(-1), code);
}

function receiveData(message) {
  const { channel, id, timestamp } = message;
  const repeated = id !== undefined && id <= (newest.get(channel) ?? 0);
  if (id !== undefined && !repeated) newest.set(channel, id);
  show(dataEntry(message, { repeated, late: timestamp < connectedAt, life: inConsole('channel', channel) }));
}

function showRoundTrip() {
  if (heartbeatAt === undefined) return;
  $('round-trip').textContent = `${(performance.now() - heartbeatAt).toFixed(1)} ms`;
  heartbeatAt = undefined;
}

function showSent(message) {
  show(protocolEntry('→', `${message.type} ${message.channel ?? ''}`, 'sent'));
}

function show(entry) {
  const feed = $('feed');
  feed.prepend(entry);
  while (feed.children.length > MAX_ENTRIES) feed.lastElementChild.remove();
}

// -- channels ---------------------------------------------------------------------------------

// After every connect, so also after a reconnect: the gateway forgets a connection's channels with it.
function subscribeAll(user) {
  if (channels.size === 0) {
    channels.set(`notifications/${user}`, 'wanted');
    channels.set('run-results/demo', 'wanted');
  }
  for (const [name, state] of channels) if (state === 'wanted') subscribe(name);
}

function subscribe(channel) {
  const sent = connection?.send({ type: 'subscribe', channel });
  setChannel(channel, sent ? 'asked' : 'wanted');
}

function setChannel(name, state) {
  channels.set(name, state);
  showChannels();
}

function dropChannel(name) {
  channels.delete(name);
  showChannels();
}

function showChannels() {
  $('channels').replaceChildren(...[...channels].map(([name, state]) => channelRow(name, state)));
}

function channelRow(name, state) {
  const on = state === 'subscribed';
  const hopeless = UNREADABLE.has(state);
  let action = hopeless ? 'Remove' : 'Try again';
  if (on) action = 'Leave';
  const button = element('button', { type: 'button', class: 'quiet' }, action);
  button.setAttribute('aria-label', `${action}: ${name}`);
  button.addEventListener('click', () => {
    if (on) connection.send({ type: 'unsubscribe', channel: name });
    else if (hopeless) dropChannel(name);
    else subscribe(name);
  });
  const waiting = state === 'wanted' || state === 'asked';
  return element(
    'li',
    { 'data-channel': name, 'data-state': state },
    element('span', { class: 'dot' }),
    element('span', { class: 'name' }, name),
    !on && element('span', { class: 'why', title: adviceOn(state) ?? '' }, waiting ? 'waiting' : state),
    !waiting && button,
  );
}

// -- commands ---------------------------------------------------------------------------------

let publisher = 'publisher';
const CONSOLE_KEY = 'gateway-console-key';
let consoleAddress; // of the console, on the same machine

async function findSurroundings() {
  const response = await fetch(new URL('surroundings.json', import.meta.url));
  if (!response.ok) return;
  const found = await response.json();
  publisher = found.publisher;
  // It is served to this machine alone.
  if (found.console && ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname)) {
    consoleAddress = found.console;
    $('console').href = inConsole('nodes');
    $('console').hidden = false;
  }
}

/** Where the console shows a channel or a user. */
function inConsole(view, subject = '') {
  const key = sessionStorage.getItem(CONSOLE_KEY);
  const place = `/${view}/${encodeURIComponent(subject)}`;
  return consoleAddress && `${consoleAddress}#${key ? new URLSearchParams({ key, view: place }) : place}`;
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function showCommands(user) {
  const id = quoted(user);
  const json = quoted(JSON.stringify({ any: 'thing' }));
  const commands = [
    ['A notification', `${publisher} notify ${id} --title "Hello" --message "It works"`],
    ['A program’s result', `${publisher} run --session demo --user ${id} -- python3 -c 'print(6 * 7)'`],
    ['Any JSON', `${publisher} publish ${quoted(`notifications/${user}`)} ${json}`],
  ];
  $('commands').replaceChildren(...commands.map(([title, command]) => commandRow(title, command)));
}

function commandRow(title, command) {
  const copy = element('button', { type: 'button', class: 'quiet', 'aria-label': `Copy: ${title}` }, 'Copy');
  copy.addEventListener('click', async () => {
    await navigator.clipboard.writeText(command);
    copy.textContent = 'Copied';
    setTimeout(() => (copy.textContent = 'Copy'), 1500);
  });
  return element(
    'li',
    {},
    element('span', { class: 'command-title' }, title),
    element('code', {}, command),
    copy,
  );
}

// -- controls ---------------------------------------------------------------------------------

$('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = $('token').value.trim();
  // Kept where `make run` puts it, so that a reload finds it again; never sent to a server from there.
  history.replaceState(null, '', `#${new URLSearchParams({ token })}`);
  connect(token);
});
$('token').addEventListener('input', showButtons);
$('disconnect').addEventListener('click', () => connection.close());
$('retry-now').addEventListener('click', () => connection.open());
$('heartbeat').addEventListener('click', () => {
  heartbeatAt = performance.now();
  connection.send({ type: 'heartbeat' });
});
$('channel-form').addEventListener('submit', (event) => {
  event.preventDefault();
  subscribe($('channel').value.trim());
  $('channel').value = '';
});
$('clear').addEventListener('click', () => $('feed').replaceChildren());
$('kept').addEventListener('click', () => {
  for (const [name, state] of channels) {
    if (state === 'subscribed') connection.send({ type: 'subscribe', channel: name, since: 0 });
  }
});
$('protocol').addEventListener('change', (event) => {
  $('feed').classList.toggle('no-protocol', !event.target.checked);
});

// `#token=…&key=…`, as `make run` prints it. The key may do everything, so it does not stay in the address.
function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.get('key')) return;
  sessionStorage.setItem(CONSOLE_KEY, given.get('key'));
  given.delete('key');
  history.replaceState(null, '', `#${given}`);
  if (consoleAddress) $('console').href = inConsole('nodes');
}

function connectFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token) connect(token);
}

addEventListener('hashchange', () => {
  takeKeyFromAddress();
  connectFromAddress();
});
takeKeyFromAddress();
showState('idle');
await findSurroundings();
showCommands('user-123');
connectFromAddress();
