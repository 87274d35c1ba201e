// Finds the headings under which all words stand: in the page's language, and where there are none, in the other. What is searched
// is loaded when somebody begins to search.

const input = document.getElementById('search-words');
const found = document.getElementById('search-found');
const up = document.body.dataset.up;
const language = document.documentElement.lang;
const most = 12;
let entries;

async function sections() {
  entries ??= (await import(`./entries.js`)).default.flatMap(([url, title, spoken, parts]) =>
    parts.map(([anchor, heading, text]) => ({
      url: `${up}/${url}${anchor && `#${anchor}`}`,
      title,
      heading,
      spoken,
      inHeading: `${title} ${heading}`.toLowerCase(),
      inText: text.toLowerCase(),
    })),
  );
  return entries;
}

function score(section, words) {
  let sum = 0;
  for (const word of words) {
    if (section.inHeading.includes(word)) sum += 10;
    else if (section.inText.includes(word)) sum += 1;
    else return 0;
  }
  return sum;
}

function row({ url, title, heading }) {
  const link = Object.assign(document.createElement('a'), { href: url, textContent: heading });
  if (title !== heading) link.append(Object.assign(document.createElement('small'), { textContent: title }));
  const item = document.createElement('li');
  item.append(link);
  return item;
}

input.addEventListener('input', async () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const all = words.length ? await sections() : [];
  const matches = all.map((section) => [score(section, words), section]).filter(([points]) => points);
  const own = matches.filter(([, section]) => section.spoken === language);
  const best = (own.length ? own : matches)
    .sort(([one], [other]) => other - one)
    .slice(0, most);
  found.replaceChildren(...best.map(([, section]) => row(section)));
  found.hidden = !best.length;
});

document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    input.focus();
  }
  if (event.key === 'Escape') found.hidden = true;
});

// What an English page calls a place, the Chinese one calls it too.
document.querySelector('header [hreflang]')?.addEventListener('click', ({ currentTarget }) => {
  currentTarget.hash = location.hash;
});

// The menu is a column where there is room, and can be opened elsewhere.
const narrow = matchMedia('(max-width: 50rem)');
const fold = () => (document.querySelector('nav details').open = !narrow.matches);
narrow.addEventListener('change', fold);
fold();
