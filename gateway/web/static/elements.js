// What the test page and the console make their pages of. Whatever came over the wire goes in as text, never as HTML.

/** An element. A child that is a string becomes text; one that is empty or missing is left out. */
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter(Boolean));
  return made;
}

/** An element of a picture. */
export function svg(name, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A field for what is no sentence. */
export function input(attributes) {
  return element('input', { autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', ...attributes });
}

/** Make these the children of `parent`. What need not move keeps its focus and selection: only what is new, or comes earlier now, is put in. */
export function arrange(parent, children) {
  const kept = new Set(children);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}

const clock = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  fractionalSecondDigits: 3,
  hourCycle: 'h23',
});

const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });

/** The time of day, of milliseconds since 1970; with the day, where it is not today. */
export function time(timestamp) {
  const date = new Date(timestamp);
  if (Number.isNaN(date.getTime())) return undefined;
  const today = date.toDateString() === new Date().toDateString();
  return element('time', { datetime: date.toISOString() }, `${today ? '' : `${day.format(date)}, `}${clock.format(date)}`);
}

export function tag(text, kind = 'plain') {
  return element('span', { class: `tag ${kind}` }, String(text));
}

/** A text that is cut where it is longer than anybody reads. */
export function cut(text, most) {
  return text.length > most ? `${text.slice(0, most)}… (${text.length.toLocaleString()} characters)` : text;
}

/** A function that runs `draw` once before the browser paints next, however often it is called. */
export function batched(draw) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      draw();
    });
  };
}
