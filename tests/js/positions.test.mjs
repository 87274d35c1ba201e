import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Positions } from '../../gateway/web/static/client/src/positions.js';

const reported = mock.method(console, 'error', () => {});

test('what is no position is not taken from a store', async () => {
  const bad = [NaN, Infinity, -1, 1.5, '7', null, undefined, {}, 2 ** 53];
  const load = () => [...bad.map((id, index) => [`c/${index}`, id]), ['c/good', 7], ['c/none', 0]];
  const each = new Positions(Promise.resolve({ load, save() {} }));
  await each.load('user');
  assert.deepEqual(bad.map((_, index) => each.get(`c/${index}`)), bad.map(() => undefined));
  assert.deepEqual([each.get('c/good'), each.get('c/none')], [7, 0]);
});

const fails = () => {
  throw new Error('the store fails');
};
for (const [name, load, save] of [
  ['throws', fails, fails],
  ['rejects', async () => fails(), async () => fails()],
  ['gives something else', () => 7, fails],
]) {
  test(`a store that ${name} is reported, and positions are in memory`, async () => {
    reported.mock.resetCalls();
    const each = new Positions(Promise.resolve({ load, save }));
    await each.load('user');
    each.set('c/1', 5); // saves at once
    each.set('c/1', undefined); // and so does this
    each.set('c/1', 6);
    each.save();
    await setImmediate();
    assert.equal(each.get('c/1'), 6);
    assert.equal(reported.mock.callCount(), 4);
  });
}

test('a store that never answers is not waited for for ever, and what it says then is too late', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  reported.mock.resetCalls();
  let answer;
  const load = () => new Promise((resolve) => (answer = resolve));
  const each = new Positions(Promise.resolve({ load, save() {} }));
  const loaded = each.load('user');
  await setImmediate();
  t.mock.timers.tick(15_000);
  await loaded;
  assert.equal(String(reported.mock.calls.at(-1).arguments[0]), 'Error: token, storage: no answer');
  each.set('c/1', 7);
  answer([['c/1', 3]]);
  await setImmediate();
  assert.equal(each.get('c/1'), 7);
});

test('what is stored for the user before counts for nobody else, however late it comes', async () => {
  const answers = {};
  const load = (user) => new Promise((resolve) => (answers[user] = resolve));
  const each = new Positions(Promise.resolve({ load, save() {} }));
  const loaded = ['ann', 'bob'].map((user) => each.load(user));
  await setImmediate();
  answers.bob([['c/1', 7]]);
  answers.ann([['c/2', 3]]);
  await Promise.all(loaded);
  assert.deepEqual([each.get('c/1'), each.get('c/2')], [7, undefined]);
});

test('what has changed is saved at once, and what follows soon a little later, together', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const saved = [];
  const each = new Positions(Promise.resolve({ load: () => [], save: (changes) => saved.push([...changes].flat()) }));
  await each.load('user');
  const steps = [
    [() => each.set('c/1', 1), ['c/1', 1]],
    [() => [each.set('c/1', 2), each.set('c/2', 3), each.set('c/1', 4)], undefined],
    [() => t.mock.timers.tick(199), undefined],
    [() => t.mock.timers.tick(1), ['c/1', 4, 'c/2', 3]],
    [() => t.mock.timers.tick(1_000), undefined],
    [() => each.set('c/2', 5), ['c/2', 5]],
  ];
  for (const [step, expected] of steps) {
    step();
    assert.deepEqual(saved.shift(), expected);
  }
});
