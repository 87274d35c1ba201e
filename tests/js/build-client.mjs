// Builds modules of the JavaScript client.
//
// Usage: node build-client.mjs SOURCE TARGET [SOURCE TARGET …]

import { build } from 'esbuild';

// Names that are seen within the core alone, and may be short there: it has to be small.
const OWN_NAMES = [
  'asking', 'attempt', 'begin', 'drained', 'ended', 'hear', 'inTurn', 'last', 'live', 'lose', 'lost', 'opened', 'options', 'pause',
  'processed', 'reached', 'refusals', 'renews', 'reset', 'resume', 'sendAcks', 'shown', 'stop', 'subscribers', 'take', 'tell', 'timer', 'wanting',
];

const files = process.argv.slice(2);
while (files.length) {
  const [source, target] = files.splice(0, 2);
  await build({
    entryPoints: [source],
    outfile: target,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    mangleProps: source.endsWith('/realtime.js') ? new RegExp(`^(${OWN_NAMES.join('|')})$`) : undefined,
    external: ['./client/*'], // loaded on demand, from beside client.js
    logLevel: 'warning',
  });
}
