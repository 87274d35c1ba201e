import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lives, steps, summary } from '../../gateway/web/static/lives.js';

/** Messages 1 to 3 of a channel, of which the page has seen the last two written to one connection. */
function channel() {
  const lives = new Lives();
  for (let id = 1; id <= 3; id++) lives.read({ id, data: id });
  for (const message of [2, 3]) lives.note({ kind: 'written', node: 'n', message, received: 4, at: 5, receivers: 1 });
  const confirm = (event) => lives.note({ kind: 'confirmed', user: 'ann', at: 6, ...event });
  const counts = () => [1, 2, 3].map((id) => summary(lives.of(id)).confirmed);
  return { confirm, counts };
}

test('a device confirms what it was sent, and nothing before it', () => {
  const { confirm, counts } = channel();
  confirm({ connection: 'n/1', after: 1, up_to: 3 });
  confirm({ connection: 'n/2', after: 3, up_to: 4 });
  assert.deepEqual(counts(), [0, 1, 1]);
});

test('a client that comes back with what it has confirms what was sent to nobody else of its user', () => {
  const { confirm, counts } = channel();
  confirm({ connection: 'n/1', after: 1, up_to: 2 });
  confirm({ connection: 'n/2', up_to: 3 });
  assert.deepEqual(counts(), [0, 1, 1]);
});

test('a message is published before anything else, also where the clock of a node is a little behind', () => {
  const lives = new Lives();
  lives.note({ kind: 'written', node: 'n', message: 9, received: 7, at: 10, receivers: 1 });
  assert.deepEqual(steps(lives.of(9)).map((each) => each.kind), ['published', 'received', 'written']);
});
