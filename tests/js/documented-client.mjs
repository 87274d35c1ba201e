// Runs the code that docs/frontend.md shows. tests/browser/documentation.py makes a module of it.
//
// Usage: node documented-client.mjs MODULE URL TOKEN SESSION USER

import { pathToFileURL } from 'node:url';
import { obey, report } from './tap.mjs';

const [module, address, token, sessionId, userId] = process.argv.slice(2);
const { start } = await import(pathToFileURL(module));

const client = start({
  address,
  sessionId,
  userId,
  getToken: async () => token,
  showResult: (data) => report('run-result', { data }),
  showNotification: (data) => report('notification', { data }),
  reload: (channel) => report('gap', { channel }),
  showLogin: (code, reason) => report('closed', { code, reason }),
});
client.onHeartbeat = ({ timestamp }) => report('heartbeat', { timestamp });

await obey({ heartbeat: () => client.sendHeartbeat() });
