// Bundles a page of TypeScript, with components of React, Vue and Svelte.
//
// Usage: node build-page.mjs ENTRY OUTPUT

import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { build } from 'esbuild';
import { compile } from 'svelte/compiler';
import { compileScript, parse } from 'vue/compiler-sfc';

function vue(path, source) {
  const { descriptor } = parse(source, { filename: path });
  return { contents: compileScript(descriptor, { id: basename(path), inlineTemplate: true }).content, loader: 'ts' };
}

function svelte(path, source) {
  return { contents: compile(source, { filename: path, generate: 'client' }).js.code, loader: 'js' };
}

const components = {
  name: 'components',
  setup(builder) {
    for (const [filter, made] of [[/\.vue$/, vue], [/\.svelte$/, svelte]]) {
      builder.onLoad({ filter }, async ({ path }) => made(path, await readFile(path, 'utf8')));
    }
  },
};

const [entry, output] = process.argv.slice(2);
await build({
  entryPoints: [entry],
  outfile: output,
  bundle: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  conditions: ['browser'],
  define: {
    'process.env.NODE_ENV': '"development"', // where StrictMode mounts twice
    __VUE_OPTIONS_API__: 'false',
    __VUE_PROD_DEVTOOLS__: 'false',
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
  },
  plugins: [components],
  logLevel: 'warning',
});
