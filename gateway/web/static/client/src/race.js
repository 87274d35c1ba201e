const POLICY = 1008;

/**
 * Ways to connect that are tried side by side: the first one that is heard is kept, and the others are closed (as with the
 * addresses of a host, RFC 8305). A transport, as `websocket.js` has it.
 */
export class Race {
  #ways = new Set();
  #decided = false;
  #timer;

  add(way) {
    if (this.#decided) return way.close();
    this.#ways.add(way);
    way.onmessage = (text) => {
      if (!this.#decided) this.#leave(way);
      this.onmessage?.(text);
    };
    way.onclose = (end) => {
      this.#ways.delete(way);
      if (!this.#ways.size || end.code === POLICY) this.end(end); // a refusal is an answer, too
    };
  }

  /** Call `then` unless one is heard within so many milliseconds. */
  later(ms, then) {
    this.#timer = setTimeout(then, ms);
  }

  send(text) {
    for (const each of this.#ways) each.send(text);
  }

  end(end) {
    this.close();
    this.onclose?.(end);
  }

  close() {
    this.#leave();
  }

  #leave(but) {
    this.#decided = true;
    clearTimeout(this.#timer);
    for (const each of this.#ways) {
      if (each === but) continue;
      this.#ways.delete(each);
      each.onmessage = each.onclose = undefined;
      each.close();
    }
  }
}
