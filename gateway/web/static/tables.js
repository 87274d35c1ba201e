// Tables, as all views have them.

import { arrange, element } from './elements.js';

/** A table whose rows become cards where there is no room for columns. */
export function table(title, columns, body) {
  return element(
    'div',
    { class: 'card table', role: 'region', 'aria-label': title, tabindex: '0' },
    element(
      'table',
      { role: 'table' }, // Safari forgets what a table is where its style is another
      element('caption', {}, title),
      element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' }, ...columns.map((each) => element('th', { scope: 'col', role: 'columnheader' }, each)))),
      body,
    ),
  );
}

export function head(content) {
  return element('th', { scope: 'row', role: 'rowheader' }, content);
}

export function cell(title, content) {
  return element('td', { 'data-title': title, role: 'cell' }, content);
}

/** Where the rows of a table go. */
export function tableBody() {
  return element('tbody', { role: 'rowgroup' });
}

/** Put rows into a table's body, and keep those that are there: focus and selection stay. `keyOf` names each, `cellsOf` gives its cells. */
export function fill(body, found, keyOf, cellsOf) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const rows = found.map((each) => {
    const name = keyOf(each);
    const row = known.get(name) ?? document.createElement('tr');
    row.dataset.key = name;
    row.setAttribute('role', 'row');
    const cells = cellsOf(each);
    const text = JSON.stringify(cells.map((cell) => cell.outerHTML));
    if (row.dataset.text !== text) {
      row.dataset.text = text;
      row.replaceChildren(...cells);
    }
    return row;
  });
  arrange(body, rows);
}
