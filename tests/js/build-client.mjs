// Builds modules of the JavaScript client.
//
// Usage: node build-client.mjs SOURCE TARGET [SOURCE TARGET …]

import { build } from 'esbuild';

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
    external: ['./client/*'], // loaded on demand, from beside client.js
    logLevel: 'warning',
  });
}
