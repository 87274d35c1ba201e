// Builds modules of the JavaScript client.
//
// Usage: node build-client.mjs SOURCE TARGET [SOURCE TARGET …]

import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';

// Names that are seen within the core alone, and may be short there: it has to be small.
const OWN_NAMES = [
  'asking', 'attempt', 'begin', 'call', 'drained', 'ended', 'hear', 'inTurn', 'last', 'live', 'lose', 'lost', 'missed', 'opened', 'options', 'pause',
  'processed', 'reached', 'refusals', 'renews', 'reset', 'resume', 'sendAcks', 'shown', 'stop', 'subscribers', 'take', 'tell', 'timer', 'wanting',
];

/** Puts a module's own numbers where they are used, which is shorter than their names. esbuild does that in modules without imports only. */
const numbers = {
  name: 'numbers',
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      const known = new Map();
      const rest = source.replace(/^const ([A-Z_]+) = ([\d_]+);.*$/gm, (_, name, number) => (known.set(name, number), ''));
      return { contents: rest.replace(/\b[A-Z_]+\b/g, (name) => known.get(name) ?? name) };
    });
  },
};

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
    plugins: [numbers],
    logLevel: 'warning',
  });
}
