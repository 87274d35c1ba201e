// Runs the code that docs/frontend.md shows. tests/browser/documentation.py makes a module of it.
//
// Usage: node documented-client.mjs MODULE URL TOKENS SESSION USER
//
// TOKENS: separated by commas, one for each attempt; the last one for all that follow. PENDING is waited for until
// the test refuses it.

import { pathToFileURL } from 'node:url';
import { obey, report } from './tap.mjs';

const [module, address, given, sessionId, userId] = process.argv.slice(2);
const tokens = given.split(',');
let refuseToken;
const { start } = await import(pathToFileURL(module));

async function getToken() {
  const token = tokens.length > 1 ? tokens.shift() : tokens[0];
  if (token !== 'PENDING') return token;
  report('asked');
  return new Promise((_, reject) => (refuseToken = reject));
}

const client = start({
  address,
  sessionId,
  userId,
  getToken,
  showResult: (data) => report('run-result', { data }),
  showNotification: (data) => report('notification', { data }),
  reload: (channel) => report('gap', { channel }),
  showError: (code, message, channel) => report('error', { code, message, channel }),
  showEnded: (channel, reason) => report('ended', { channel, reason }),
  showLogin: (code, reason) => report('closed', { code, reason }),
});

await obey({
  heartbeat: () => client.sendHeartbeat(),
  close: () => client.close(),
  refuse: () => refuseToken(new Error('logged out')),
  // When all that a command before has set off is over.
  timers: () => setImmediate(() => report('timers', { count: process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length })),
});
