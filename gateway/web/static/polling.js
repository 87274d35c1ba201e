// Asking again and again, for as long as a view is shown and can be seen.

/** Run `look` now and `every` so many milliseconds, until `signal` ends it. What it throws goes to `failed`, and it goes on. */
export async function poll(every, signal, look, failed) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await look();
      } catch (error) {
        if (signal.aborted) return;
        failed(error);
      }
    }
    await new Promise((done) => {
      const timer = setTimeout(done, every);
      signal.addEventListener('abort', () => (clearTimeout(timer), done()), { once: true });
    });
  }
}
