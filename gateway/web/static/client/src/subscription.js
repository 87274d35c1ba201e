import { report } from './report.js';

/**
 * One subscriber of a channel: its position, and what waits for its callback.
 *
 * With `inTurn` (and `ack`) a message waits until the promise of the one before it is settled. At most `limit` wait. What does
 * not fit is not taken, and asked for again behind the last one that was: `drained` says when.
 */
export class Subscription {
  #callback;
  #on;
  #waiting = [];
  #limit;
  #left; // what to call when all that waits is done, since something did not fit
  #failed = false;
  live = false;
  last; // the id of the last message that was taken
  done; // up to which none is unfinished

  /**
   * `on.processed()`: it has moved. All that waited is done, and something did not fit: `on.drained()` where that is to be asked
   * for again, `on.missed()` where it is lost.
   */
  constructor(callback, options, on) {
    this.#callback = callback;
    this.#on = on;
    this.options = options;
    this.inTurn = options.inTurn ?? options.ack;
    this.#limit = Math.max(options.limit ?? 1_000, 1);
    this.begin(options.since);
  }

  /** Begin behind this message, also one that a store gives as text, or without a position, which may be `null`, '', or what is no id. */
  begin(since) {
    this.last = this.done = /^\d+$/.test(since) ? +since : undefined;
  }

  /** Where to go on when a page is loaded again. */
  get reached() {
    return this.inTurn ? this.done : this.last;
  }

  /** Nobody wants it any more: what waits is not handed over, and what is being processed moves no position, unless it is `done` with. */
  stop(done) {
    this.live = false;
    if (done) this.#finished(this.#waiting[0]);
    this.#waiting = [];
  }

  /** A connection begins. */
  resume() {
    this.live = false;
    this.#left = undefined;
    // What failed comes again, and what was behind it.
    if (this.#failed && this.done !== undefined) {
      this.#waiting = [];
      this.last = this.done;
    }
    this.#failed = false;
  }

  /** Messages are lost; what follows may have lower ids. */
  lose() {
    this.begin(undefined);
    for (const each of this.#waiting) each.id = undefined;
    this.tell('onGap');
  }

  /** Call a function of the options behind the messages that wait. */
  tell(name, ...given) {
    const call = () => this.#call(this.options[name], ...given);
    if (this.#waiting.length) this.#waiting.push({ call });
    else call();
  }

  /** An error in one of the user's functions is nobody else's. */
  async #call(callback, ...given) {
    try {
      await callback?.(...given);
    } catch (error) {
      report(error);
    }
  }

  take(message) {
    const { id, data } = message;
    if (!this.live || id <= this.last) return;
    if (this.#waiting.length >= this.#limit) {
      this.live = id === undefined; // without a log there is nothing to go back to
      this.#left = this.live ? this.#on.missed : this.#on.drained;
      return;
    }
    this.last = id ?? this.last;
    if (!this.inTurn) return void this.#call(this.#callback, data, message);
    if (this.#waiting.push({ id, call: () => this.#callback(data, message) }) === 1) this.#work();
  }

  async #work() {
    const waiting = this.#waiting;
    while (waiting.length) {
      const [current] = waiting;
      // Without a position it would not come again if it fails, or the page is loaded again: the gateway takes it as received.
      if (current.id !== undefined) this.done ??= current.id - 1;
      try {
        await current.call();
      } catch (error) {
        report(error);
        if (waiting === this.#waiting) this.#failed = true;
      }
      if (waiting !== this.#waiting) return; // it all comes again, or nobody wants it
      waiting.shift();
      this.#finished(current);
    }
    this.#left?.();
    this.#left = undefined;
  }

  #finished(message) {
    const id = message?.id;
    if (id === undefined || this.#failed) return;
    this.done = id;
    this.#on.processed();
  }
}
