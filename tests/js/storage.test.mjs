import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { indexeddb } from '../../gateway/web/static/client/src/storage.js';

// Node has no IndexedDB, like a browser that refuses it: positions are where pages write them first.
const kept = new Map();
globalThis.localStorage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
};
beforeEach(() => kept.clear());
mock.timers.enable({ apis: ['setTimeout'] }); // nobody waits for the database that there is not

async function tab() {
  const store = indexeddb('ws://gateway');
  const positions = new Map(await store.load('ann'));
  return { position: positions.get('news/1'), save: (id) => store.save(new Map([['news/1', id]])) };
}

test('of two tabs that are left the one that is further counts', async () => {
  const tabs = [await tab(), await tab()];
  for (const id of [20, 10]) tabs.pop().save(id);
  assert.equal((await tab()).position, 20);
});

test('behind lost messages lower ids count', async () => {
  (await tab()).save(90);
  const { position, save } = await tab();
  save(undefined);
  save(3);
  assert.deepEqual([position, (await tab()).position], [90, 3]);
});
