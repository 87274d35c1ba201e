/**
 * An iterator over what one callback is given in turn: the promise of each message is settled when the next one is asked for.
 *
 * `begin(take, end)` is called with the first question. It returns a function that leaves; given `true` the message that the loop was left
 * on counts as done. `end(error)` ends it, with an error or without.
 */
export function loop(begin) {
  const asked = [];
  let leave, done, over;
  const settle = (error) => {
    for (const { resolve, reject } of asked.splice(0)) error ? reject(error) : resolve({ done: true });
  };
  const end = (error) => {
    if (over) return;
    over = true;
    leave?.(!!done);
    settle(error);
  };
  const take = (value) =>
    new Promise((resolve) => {
      done = resolve;
      asked.shift().resolve({ value, done: false });
      if (asked.length) resolve();
    });
  return {
    next: () =>
      new Promise((resolve, reject) => {
        asked.push({ resolve, reject });
        if (over) return settle();
        done?.();
        done = undefined;
        leave ??= begin(take, end);
      }),
    async return(value) {
      end();
      return { value, done: true };
    },
    // Where the symbol is missing (Hermes of React Native) what Babel makes of `for await` asks by this name.
    [Symbol.asyncIterator ?? '@@asyncIterator']() {
      return this;
    },
  };
}
