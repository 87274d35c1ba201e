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
  return { positions, save: (channel, id) => store.save(new Map([[channel, id]])) };
}

async function stored(channel) {
  return (await tab()).positions.get(channel);
}

test('of two tabs that are left the one that is further counts', async () => {
  const tabs = [await tab(), await tab()];
  for (const id of [20, 10]) tabs.pop().save('c/1', id);
  assert.equal(await stored('c/1'), 20);
});

test('behind lost messages lower ids count, whatever another tab stores of other channels', async () => {
  const [one, other] = [await tab(), await tab()];
  other.save('c/1', 90);
  one.save('c/1', undefined);
  assert.equal(await stored('c/1'), undefined);
  one.save('c/1', 3);
  other.save('c/2', 1);
  assert.equal(await stored('c/1'), 3);
});

test('where only so many fit the channels that were heard last are kept', async () => {
  const { save } = await tab();
  for (let number = 0; number <= 200; number++) save(`c/${number}`, 1);
  save('c/1', 2);
  save('c/201', 1);
  assert.deepEqual(await Promise.all(['c/0', 'c/1', 'c/2', 'c/201'].map(stored)), [undefined, 2, undefined, 1]);
});

test('where there is no room what is wrong by now is not kept either', async (t) => {
  const { save } = await tab();
  save('c/1', 90);
  t.mock.method(localStorage, 'setItem', () => {
    throw new DOMException('full', 'QuotaExceededError');
  });
  save('c/1', undefined);
  save('c/1', 3);
  assert.equal(await stored('c/1'), undefined);
});

test('where there is little room the channels that were heard last are kept', async (t) => {
  const { save } = await tab();
  save('c/1', 1);
  save('c/2', 2);
  t.mock.method(localStorage, 'setItem', (key, text) => {
    if (text.length > 40) throw new DOMException('full', 'QuotaExceededError');
    kept.set(key, text);
  });
  save('c/3', 3);
  assert.deepEqual(await Promise.all(['c/1', 'c/2', 'c/3'].map(stored)), [undefined, 2, 3]);
});
