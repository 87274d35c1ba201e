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
  #left = false; // something did not fit
  #failed = false;
  live = false;
  last; // the id of the last message that was taken
  done; // up to which none is unfinished

  /** `on.processed()`: it has moved; `on.drained(goesOn)`: all that waited is done, and something did not fit. */
  constructor(callback, options, on) {
    this.#callback = callback;
    this.#on = on;
    this.options = options;
    this.inTurn = options.inTurn ?? options.ack;
    this.#limit = Math.max(options.limit ?? 1_000, 1);
    this.begin(options.since);
  }

  /** Begin behind this message, or without a position, which a store may give as `null` or '', and another one as text. */
  begin(since) {
    this.last = this.done = /\d/.test(since) ? +since : undefined;
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

  /** A connection begins: returns what to ask for. */
  resume() {
    this.live = this.#left = false;
    // What failed comes again, and what was behind it.
    if (this.#failed && this.done !== undefined) {
      this.#waiting = [];
      this.last = this.done;
    }
    this.#failed = false;
    return this.last;
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
      this.#left = true;
      this.live = id === undefined; // without a log there is nothing to go back to
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
    if (this.#left) {
      this.#left = false;
      this.#on.drained(this.live);
    }
  }

  #finished(message) {
    const id = message?.id;
    if (id === undefined || this.#failed) return;
    this.done = id;
    this.#on.processed();
  }
}
