const MS = 15_000;

/** What a function of the user's promises; an error where that takes too long. */
export function within(promise) {
  let timer;
  return Promise.race([
    promise,
    new Promise((_, reject) => (timer = setTimeout(reject, MS, new Error('token, storage: no answer')))),
  ]).finally(() => clearTimeout(timer));
}
