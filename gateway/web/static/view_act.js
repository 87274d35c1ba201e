// Publishing and granting without a channel at hand.

import { grantForm, publishForm } from './actions.js';
import { element } from './elements.js';

export function actView(_subject, { state }) {
  state('connected', 'Connected');
  return element(
    'section',
    { 'aria-labelledby': 'act-title' },
    element('h2', { id: 'act-title', class: 'title' }, 'Publish and grant'),
    element('p', { class: 'hint' }, 'To see what becomes of a message, publish it from its channel’s own view.'),
    element('div', { class: 'columns' }, publishForm(), grantForm()),
  );
}
