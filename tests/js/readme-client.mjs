// Runs the front-end example of the README. tests/browser/test_readme.py makes a module of it.
//
// Usage: node readme-client.mjs MODULE URL TOKEN SESSION

import { pathToFileURL } from 'node:url';
import { obey, report } from './tap.mjs';

const [module, address, token, sessionId] = process.argv.slice(2);
const { start } = await import(pathToFileURL(module));

console.error = (code) => report('error', { code });

start({
  address,
  token,
  sessionId,
  showResult: (data) => report('run-result', { data }),
  showNotification: (data) => report('notification', { data }),
});

await obey({});
