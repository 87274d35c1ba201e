// Asking again and again, for as long as a view is shown and can be seen.

/** Run `look` now and `every` so many milliseconds, until `signal` ends it. What it throws goes to `failed`, and it goes on. */
export async function poll(every, signal, look, failed) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await look();
      } catch (error) {
        if (signal.aborted) return;
        failed(error);
      }
    }
    await new Promise((done) => {
      const timer = setTimeout(done, every);
      signal.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true });
    });
  }
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
  if (rows.length !== body.children.length || rows.some((row, index) => body.children[index] !== row)) {
    body.replaceChildren(...rows);
  }
}
