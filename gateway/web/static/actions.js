// What changes something: publishing, granting, disconnecting. Whether the key may is for the gateway to say.

import { ask } from './api.js';
import { element, input } from './elements.js';

/** A line that says what has become of an action. */
function outcome() {
  const line = element('p', { class: 'outcome', role: 'status' });
  return {
    line,
    async of(action, done) {
      line.className = 'outcome';
      line.textContent = '…';
      try {
        line.textContent = done(await action());
      } catch (error) {
        line.className = 'outcome problem';
        line.textContent = error.code ? `${error.message} (${error.code})` : error.message;
      }
    },
  };
}

let fields = 0;

function field(label, control) {
  control.id = `field-${(fields += 1)}`;
  return [element('label', { for: control.id }, label), control];
}

/** A form that publishes; in a channel, or in one that is to be named. */
export function publishForm(channel) {
  const where = input({ name: 'channel', required: '', placeholder: 'notifications/user-123' });
  const data = element('textarea', { name: 'data', rows: '4', spellcheck: 'false', required: '' }, '{"title": "Hello", "message": "It works"}');
  const told = outcome();
  const form = element(
    'form',
    { class: 'card publish' },
    element('h3', {}, channel ? 'Publish here' : 'Publish a message'),
    ...(channel ? [] : field('Channel', where)),
    ...field('Data, as JSON', data),
    element('div', { class: 'buttons' }, element('button', { class: 'primary' }, 'Publish')),
    told.line,
  );
  // Of a form that is sent twice by mistake the gateway publishes one message.
  let key = crypto.randomUUID();
  form.addEventListener('input', () => (key = crypto.randomUUID()));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    told.of(
      () => {
        const body = { channel: channel ?? where.value.trim(), data: JSON.parse(data.value) };
        return ask('publish', { method: 'POST', body, headers: { 'Idempotency-Key': key } });
      },
      ({ id }) => {
        key = crypto.randomUUID();
        return id > 0 ? `Published as message ${id}.` : 'Published; this channel keeps no log.';
      },
    );
  });
  return form;
}

/** A form that grants, and takes a grant back. */
export function grantForm() {
  const channel = input({ name: 'channel', required: '', placeholder: 'run-results/session-123' });
  const user = input({ name: 'user', required: '', placeholder: 'user-123' });
  const hours = input({ name: 'hours', type: 'number', min: '1', max: '8760', value: '24', required: '' });
  const told = outcome();
  const form = element(
    'form',
    { class: 'card grant' },
    element('h3', {}, 'Grant a channel'),
    ...field('Channel', channel),
    ...field('User', user),
    ...field('For how many hours', hours),
    element(
      'div',
      { class: 'buttons' },
      element('button', { class: 'primary', value: 'grant' }, 'Grant'),
      element('button', { value: 'revoke' }, 'Take it back'),
    ),
    told.line,
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const who = { channel: channel.value.trim(), user: user.value.trim() };
    if (event.submitter?.value === 'revoke') {
      told.of(
        () => ask(`grants?${new URLSearchParams(who)}`, { method: 'DELETE' }),
        ({ revoked }) => (revoked ? 'Taken back: the subscription ends.' : 'There was no such grant.'),
      );
    } else {
      told.of(
        () => ask('grants', { method: 'PUT', body: { ...who, ttl: Math.round(hours.value * 3600) } }),
        () => `${who.user} may subscribe to ${who.channel} now.`,
      );
    }
  });
  return form;
}

/** A button that ends a user's connections, or one of them, after it was asked twice. */
export function disconnectButton(user, connection) {
  const told = outcome();
  const button = element('button', { type: 'button', class: connection ? 'quiet' : '' }, connection ? 'Disconnect' : 'Disconnect all');
  button.setAttribute('aria-label', `Disconnect ${connection ?? `all connections of ${user}`}`);
  const dialog = confirmation(
    connection ? `End the connection ${connection}?` : `End all connections of ${user}?`,
    'Clients connect again by themselves, as long as their token is valid.',
    (reason) =>
      told.of(
        () => ask('disconnect', { method: 'POST', body: { user, ...(connection && { connection }), ...(reason && { reason }) } }),
        () => 'Told to all nodes.',
      ),
  );
  button.addEventListener('click', () => dialog.showModal());
  return element('div', { class: 'action' }, button, told.line, dialog);
}

function confirmation(question, advice, go) {
  const reason = input({ name: 'reason', maxlength: '100', placeholder: 'disconnected' });
  const id = `dialog-${(fields += 1)}`;
  const dialog = element(
    'dialog',
    { class: 'card', 'aria-labelledby': id },
    element(
      'form',
      { method: 'dialog' },
      element('h3', { id }, question),
      element('p', { class: 'hint' }, advice),
      ...field('What the client is told', reason),
      element('div', { class: 'buttons' }, element('button', { class: 'primary', value: 'go' }, 'Disconnect'), element('button', { value: '', formnovalidate: '' }, 'Cancel')),
    ),
  );
  dialog.addEventListener('close', () => {
    if (dialog.returnValue === 'go') go(reason.value.trim());
    dialog.returnValue = '';
  });
  return dialog;
}
