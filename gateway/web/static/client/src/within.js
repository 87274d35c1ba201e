const MS = 15_000;

/** What a function of the user's promises; an error where that takes too long. */
export function within(promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(reject, MS, new Error('token or storage: no answer'))));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
