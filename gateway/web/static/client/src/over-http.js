const ACK_MS = 1_000;
const FAREWELL_MS = 2_000;
const MOST_SAID = 5_000; // characters, of up to three bytes each: a gateway takes 16 KiB at once
const SAID_MS = 20_000;
const AGAIN_MS = 4_000;
const MOST_TRIES = 5;
const POLICY = 1008;
const LONGEST_RETRY_MS = 300_000;
const JSON_BODY = { 'Content-Type': 'application/json' };

export const GOING_AWAY = 1001;
export const FAILED = { code: 1006, reason: '' };

/** What the gateway says by these passes. */
export const passes = ({ status }) => status === 429 || status === 503;

/** Milliseconds as somebody else has written them, within reason. */
export const bounded = (ms) => Math.min(Math.max(ms, 0) || 0, LONGEST_RETRY_MS);

/** For how many milliseconds who answers wants to be left alone. */
export const retryAfter = ({ headers }) => bounded(1_000 * headers.get('Retry-After'));

/**
 * What streams and polls have in common: they say what there is to say in requests of their own. Transports, as `websocket.js`
 * has them.
 *
 * `session`: `base`, before the paths; the `token`, which is renewed; whether another connection is `tried` beside; and the
 * callbacks `answered(way, isOpen, retryAfter)`, when a gateway has let it in or refused it, and `ended(way)`.
 */
export class OverHttp {
  over = false; // nothing that comes is heard any more
  acksInTime = true;
  #name; // by which the gateway knows it
  #outbox = [];
  #saying;
  #acks = new Map();
  #acking;
  #why; // the error behind which it ends
  #requests = new AbortController();

  constructor(session) {
    this.session = session;
    const ended = (end) => this.over || this.end(end); // who has been left ends by itself
    queueMicrotask(() => this.over || this.run().then(ended, () => ended(FAILED)));
  }

  send(text) {
    this.#outbox.push(text);
    this.#saying ??= this.#say().catch(() => this.over || this.end(FAILED));
  }

  close() {
    this.onmessage = this.onclose = undefined;
    this.#leave();
    this.#outbox.push(...this.#takeAcks());
    if (!this.#name) return this.end(FAILED);
    // Until that is said the stream stays, unheard: the gateway takes acks of living streams only.
    const said = Promise.all([this.#saying, this.#say()]).then(() => this.#tell('DELETE'));
    Promise.race([said.catch(() => {}), this.pause(FAREWELL_MS)]).then(() => this.end(FAILED));
  }

  end(end) {
    this.#leave();
    this.#requests.abort();
    const { onclose } = this;
    this.onmessage = this.onclose = undefined;
    if (this.#why === 'replaced' && this.session.tried) onclose?.({ code: GOING_AWAY, reason: 'websocket_found' });
    else onclose?.(this.#why ? { ...end, code: POLICY, reason: this.#why } : end);
  }

  /** End when places are free that a gateway would keep for a while. What is said meanwhile is nobody's. */
  async giveBack(names, end) {
    this.#leave();
    const given = names.map((name) => this.ask(`${this.path}/${name}`, { method: 'DELETE', keepalive: true }).catch(() => {}));
    await Promise.race([Promise.all(given), this.pause(FAREWELL_MS)]);
    this.end(end);
  }

  #leave() {
    clearTimeout(this.#acking);
    if (this.over) return;
    this.over = true;
    this.session.ended(this);
  }

  // -- what is said -------------------------------------------------------------------------------

  // One request after the other, since what is said counts in its order.
  async #say() {
    await undefined; // what is sent in one go is one request
    for (let tries = 1; this.#outbox.length; ) {
      let size = 0;
      const fit = this.#outbox.findIndex((text) => (size += text.length) > MOST_SAID);
      const said = this.#outbox.splice(0, fit < 0 ? Infinity : fit || 1);
      const answer = await this.#tell('POST', `[${said}]`);
      if (passes(answer) && !this.over && tries++ < MOST_TRIES) {
        this.#outbox.unshift(...said);
        await this.pause(Math.max(AGAIN_MS / 2, retryAfter(answer)) + AGAIN_MS * Math.random());
        continue;
      }
      if (!answer.ok) throw new Error(`the gateway has answered ${answer.status}`);
      tries = 1;
      for (const { type, token } of said.map((text) => JSON.parse(text))) if (type === 'refresh') this.session.token = token;
    }
    this.#saying = undefined;
  }

  async #tell(method, body) {
    const timer = setTimeout(() => this.end(FAILED), SAID_MS);
    try {
      // What is said at the end is sent also where the page is left.
      return await this.ask(`${this.path}/${this.#name}`, { method, body, keepalive: this.over }, body && JSON_BODY);
    } finally {
      clearTimeout(timer);
    }
  }

  ask(path, options, headers) {
    const { base, token } = this.session;
    const authorization = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    const { signal } = this.#requests;
    return fetch(base + path, { cache: 'no-store', signal, headers: { ...authorization, ...headers }, ...options });
  }

  /** Wait so many milliseconds, or until it has ended. */
  pause(ms) {
    const { signal } = this.#requests;
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done);
    });
  }

  // -- what is heard ------------------------------------------------------------------------------

  /** Take a message. One that nobody hears is not acknowledged. */
  hear(message, text = JSON.stringify(message)) {
    const hear = this.onmessage;
    if (!hear) return;
    const { type, channel, id, code } = message;
    if (type === 'connected') {
      this.#name = message.stream ?? message.poll;
      this.session.answered(this, true);
    }
    this.#why = type === 'error' && channel === undefined ? code : undefined;
    if (id !== undefined && 'data' in message) {
      this.#acks.set(channel, id);
      if (this.acksInTime) this.#acking ??= setTimeout(() => this.#sendAcks(), ACK_MS);
    }
    hear(text);
  }

  /** The line lives, though there is no message: nobody need ask. */
  alive() {
    if (this.#name) this.onmessage?.('[]');
  }

  /** The end of who is refused, as a WebSocket would be closed; an error where it is not the gateway that has answered. */
  async refused(answer) {
    const { code, help } = (await answer.json()).error;
    if (!help) throw new Error(`something has answered ${answer.status}`);
    // A cookie may count for WebSockets only: over HTTP the gateway takes none from a page of another origin.
    if (answer.status === 401 && this.session.token === undefined) return FAILED;
    const after = retryAfter(answer);
    this.session.answered(this, false, after);
    return { ...(answer.status === 401 || answer.status === 429 ? { code: POLICY, reason: code } : FAILED), retryAfter: after };
  }

  /** What has come is known to have come. A WebSocket shows that by its pongs. */
  proven() {
    this.#acks.clear();
  }

  #sendAcks() {
    this.#acking = undefined;
    // While something is being said they would only pile up.
    if (this.#saying) this.#acking = setTimeout(() => this.#sendAcks(), ACK_MS);
    else for (const text of this.#takeAcks()) this.send(text);
  }

  #takeAcks() {
    const acks = [...this.#acks].map(([channel, id]) => JSON.stringify({ type: 'ack', channel, id }));
    this.#acks.clear();
    return acks;
  }
}
