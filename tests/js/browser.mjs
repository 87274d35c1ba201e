// A headless Chromium that does what lines of JSON on standard input say, one after the other:
//
//   {"do": "open", "page": "a", "url": "http://…"}            {"do": "close", "page": "a"}
//   {"do": "wait", "page": "a", "selector": "li", "count": 2}  (without count: until it is visible)
//   {"do": "texts", "page": "a", "selector": "li"}
//   {"do": "click", …}   {"do": "fill", …, "text": "…"}   {"do": "shot", …, "file": "x.png", "dark": true}
//   {"do": "evaluate", "page": "a", "script": "innerWidth"}        what the script gives
//   {"do": "open", …, "beside": "a"}     in the profile of another one        {"do": "go", "page": "a", "url": "http://…"}
//   {"do": "reload", …}   {"do": "back", …}   {"do": "crash", …}   {"do": "offline", …, "off": true}
//   {"do": "press", "page": "a", "key": "Tab"}                  a key, at what has the focus
//   {"do": "resize", "page": "a", "width": 320, "height": 640}
//   {"do": "axe", "page": "a", "dark": true}                   what WCAG 2.2 A and AA have against the page, by axe-core
//   {"do": "complaints", "page": "a"}                          what its console and network had to complain of
//
// Each is answered with one line: {"done": result} or {"failed": message}.
//
// Usage: node browser.mjs CHROMIUM

import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const browser = await chromium.launch({
  executablePath: process.argv[2],
  headless: true,
  ignoreDefaultArgs: ['--disable-back-forward-cache'], // as people have it
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});

const pages = new Map();
const complaints = new Map();

async function open({ page: name, url, beside, width = 1280, height = 900 }) {
  const context = beside ? pages.get(beside).context() : await browser.newContext({
    ignoreHTTPSErrors: true, // it does not know the authorities of the tests
    permissions: ['clipboard-read', 'clipboard-write'],
    reducedMotion: 'reduce',
    viewport: { width, height },
  });
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  const heard = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) heard.push(message.text());
  });
  page.on('pageerror', (error) => heard.push(String(error)));
  page.on('request', (request) => {
    if (new URL(request.url()).host !== new URL(url).host) heard.push(`asks ${request.url()}`);
  });
  pages.set(name, page);
  complaints.set(name, heard);
  await page.goto(url);
}

async function wait({ page, selector, count }) {
  const locator = pages.get(page).locator(selector);
  if (count == null) await locator.first().waitFor();
  // The last one wanted is there, and none more.
  else if (count > 0) await locator.nth(count - 1).waitFor({ state: 'attached' });
  const found = await locator.count();
  if (count != null && found !== count) throw new Error(`${found} of ${selector}, not ${count}`);
}

async function shot({ page: name, file, dark, whole = false }) {
  const page = pages.get(name);
  await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' });
  await page.screenshot({ path: file, fullPage: whole });
}

/** A page that is alone in its profile ends with it. */
async function close(page) {
  const context = page.context();
  await page.close({ runBeforeUnload: false });
  if (!context.pages().length) await context.close();
}

async function crash(page) {
  const session = await page.context().newCDPSession(page);
  const crashed = page.waitForEvent('crash');
  session.send('Page.crash').catch(() => {});
  await crashed;
}

const axeSource = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

async function axe({ page: name, dark }) {
  const page = pages.get(name);
  await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' });
  await page.evaluate(axeSource);
  const { violations, passes } = await page.evaluate(() =>
    globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }),
  );
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((each) => `${each.target} ${each.failureSummary}`).join('; ')}`);
  return { found, passed: passes.length };
}

const actions = {
  axe,
  press: ({ page, key }) => pages.get(page).keyboard.press(key),
  resize: ({ page, width, height }) => pages.get(page).setViewportSize({ width, height }),
  open,
  wait,
  shot,
  close: ({ page }) => close(pages.get(page)),
  go: async ({ page, url }) => void (await pages.get(page).goto(url)),
  reload: async ({ page }) => void (await pages.get(page).reload()),
  back: async ({ page }) => void (await pages.get(page).goBack({ waitUntil: 'commit' })),
  crash: ({ page }) => crash(pages.get(page)),
  offline: ({ page, off }) => pages.get(page).context().setOffline(off),
  click: ({ page, selector }) => pages.get(page).locator(selector).click(),
  fill: ({ page, selector, text }) => pages.get(page).locator(selector).fill(text),
  texts: ({ page, selector }) => pages.get(page).locator(selector).allTextContents(),
  clipboard: ({ page }) => pages.get(page).evaluate(() => navigator.clipboard.readText()),
  evaluate: ({ page, script }) => pages.get(page).evaluate(script),
  complaints: ({ page }) => complaints.get(page),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: action, ...details } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ done: (await actions[action](details)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ failed: String(error) }));
  }
}
await browser.close();
