const OPEN_MS = 18_000; // a request may wait 15 s for its turn
const GREETING_MS = 5_000; // a proxy that gathers an answer until it ends lets nothing of a stream through
const SOON_MS = 2_000; // where HTTP gets through it may have been the network that was away, and not WebSockets that are blocked
const AGAIN_MS = 60_000;
const LONGEST_AGAIN_MS = 900_000;
const ACK_MS = 1_000;
const FAREWELL_MS = 2_000;
const MOST_SAID = 8_000; // a gateway takes 16 KiB at once
const POLL_SECONDS = 25;
const GOING_AWAY = 1001;
const POLICY = 1008;
const FAILED = { code: 1006, reason: '' };

/**
 * What speaks the protocol over HTTP where WebSockets do not get through: over an event stream, or where that does not either,
 * by long polls. A transport, as `websocket.js` has it.
 *
 * Soon, after a minute, and then less and less often it tries a WebSocket beside; and at once where the network has changed. When one is
 * open, it ends as a node ends that goes away, and gives that one to the client that comes back.
 */
export class Fallback {
  #openSocket;
  #told;
  #streams = true; // until one is open, and nothing comes through
  #again = SOON_MS;
  #spare;

  /** @param told called when a connection has ended, with whether anything came over it */
  constructor(openSocket, told) {
    this.#openSocket = openSocket;
    this.#told = told;
  }

  /** Whether a WebSocket waits to be taken. */
  get hasSocket() {
    return this.#spare !== undefined;
  }

  takeSocket() {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare.handOver();
  }

  open(url, token) {
    const base = url.replace(/^ws/i, 'http').replace(/(\/ws)?\/?(\?.*)?$/, '');
    const stuck = () => (this.#streams = false);
    const transport = this.#streams ? new Stream(base, token, stuck) : new Polls(base, token);
    this.#lookForSockets(transport, url, token);
    return transport;
  }

  #lookForSockets(transport, url, token) {
    const look = () => {
      clearTimeout(timer);
      const spare = new Spare(this.#openSocket(url, token), (found) => {
        if (transport.ended) spare.close();
        else if (found) {
          this.#spare = spare;
          this.#again = SOON_MS;
          transport.end({ code: GOING_AWAY, reason: 'websocket_found' });
        } else {
          this.#again = Math.min(Math.max(2 * this.#again, AGAIN_MS), LONGEST_AGAIN_MS);
          timer = setTimeout(look, this.#again);
        }
      });
    };
    let timer = setTimeout(look, this.#again);
    globalThis.addEventListener?.('online', look);
    transport.atEnd = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.('online', look);
      this.#told(transport.greeted);
    };
  }
}

/** A WebSocket that is kept until the client takes it. */
class Spare {
  #transport;
  #said = [];
  #end;

  constructor(transport, found) {
    this.#transport = transport;
    const timer = setTimeout(() => this.close(), GREETING_MS * 4);
    transport.onmessage = (text) => {
      this.#said.push(text);
      clearTimeout(timer);
      // A client that is refused is refused here too, and keeps what it has.
      if (this.#said.length === 1) found(JSON.parse(text).type === 'connected');
    };
    transport.onclose = (end) => {
      this.#end = end;
      clearTimeout(timer);
      if (!this.#said.length) found(false);
    };
  }

  /** The transport, which says again what it has said as soon as somebody listens. */
  handOver() {
    const transport = this.#transport;
    const said = this.#said;
    const end = this.#end;
    let hear;
    return {
      send: (text) => transport.send(text),
      close: () => transport.close(),
      set onmessage(then) {
        hear = then;
        queueMicrotask(() => {
          while (hear && said.length) hear(said.shift());
          transport.onmessage = hear;
        });
      },
      set onclose(then) {
        transport.onclose = then;
        if (end && then) queueMicrotask(() => then(end));
      },
    };
  }

  close() {
    this.#transport.close();
  }
}

/** What streams and polls have in common: they say what there is to say in requests of their own. */
class OverHttp {
  ended = false;
  greeted = false; // whether there is a gateway at the other end
  #name; // by which the gateway knows it
  #outbox = [];
  #saying;
  #acks = new Map();
  #acking;
  #why; // the last error that was about the connection

  constructor(base, token) {
    this.base = base;
    this.aborting = new AbortController();
    this.headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    queueMicrotask(() => this.run().then((end) => this.end(end), () => this.end(FAILED)));
  }

  send(text) {
    this.#outbox.push(text);
    this.#saying ??= this.#sayAll().catch(() => this.end(FAILED));
  }

  // One request after the other, since what is said counts in its order.
  async #sayAll() {
    await undefined; // what is sent in one go is one request
    while (this.#outbox.length && !this.ended) {
      let size = 0;
      const fit = this.#outbox.findIndex((text) => (size += text.length) > MOST_SAID);
      const said = this.#outbox.splice(0, fit < 0 ? Infinity : fit || 1);
      const headers = { ...this.headers, 'Content-Type': 'application/json' };
      const answer = await this.ask(`${this.name}/${this.#name}`, { method: 'POST', headers, body: `[${said}]` });
      if (!answer.ok) throw new Error(`the gateway has answered ${answer.status}`);
    }
    this.#saying = undefined;
  }

  ask(path, options) {
    return fetch(this.base + path, { cache: 'no-store', headers: this.headers, signal: this.aborting.signal, ...options });
  }

  close() {
    this.#sendAcks();
    this.onmessage = this.onclose = undefined;
    // What is being said may still arrive.
    Promise.race([this.#saying, new Promise((resolve) => setTimeout(resolve, FAREWELL_MS))]).then(() => this.end());
  }

  end(end = FAILED) {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.#acking);
    this.aborting.abort();
    this.atEnd?.();
    this.onclose?.(this.#why ? { code: POLICY, reason: this.#why } : end);
  }

  /** Take what the gateway says: one message or an array. */
  hear(text) {
    for (const message of [JSON.parse(text)].flat()) {
      const { type, channel, id, code } = message;
      if (type === 'connected') {
        this.#name = message.stream ?? message.poll;
        this.greeted = true;
      }
      if (type === 'error' && channel === undefined) this.#why = code;
      if (id !== undefined && 'data' in message) this.#received(channel, id);
    }
    this.onmessage?.(text);
  }

  /** How a refusal ends the connection: as a WebSocket would be closed. */
  async refused(answer) {
    try {
      const { code } = (await answer.json()).error;
      this.greeted = true; // it is the gateway that has answered
      if (answer.status === 401 || answer.status === 429) return { code: POLICY, reason: code };
    } catch {
      // It is something in between.
    }
    return FAILED;
  }

  // A WebSocket shows what has arrived by its pongs.
  #received(channel, id) {
    this.#acks.set(channel, id);
    this.#acking ??= setTimeout(() => this.#sendAcks(), ACK_MS);
  }

  #sendAcks() {
    clearTimeout(this.#acking);
    this.#acking = undefined;
    for (const [channel, id] of this.#acks) this.send(JSON.stringify({ type: 'ack', channel, id }));
    this.#acks.clear();
  }
}

class Stream extends OverHttp {
  name = '/sse';
  #stuck;
  #timer;

  /** @param stuck called where nothing comes through */
  constructor(base, token, stuck) {
    super(base, token);
    this.#stuck = stuck;
  }

  async run() {
    this.#wait(OPEN_MS);
    try {
      const answer = await this.ask(this.name);
      if (!answer.ok) return await this.refused(answer);
      this.#wait(GREETING_MS);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return { code: GOING_AWAY, reason: 'stream_ended' };
        const events = (rest + value).split('\n\n');
        rest = events.pop();
        for (const event of events) this.#take(event);
      }
    } finally {
      clearTimeout(this.#timer);
    }
  }

  #wait(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#stuck();
      this.end({ code: GOING_AWAY, reason: 'stream_stuck' });
    }, ms);
  }

  #take(event) {
    const data = event.split('\n').filter((line) => line.startsWith('data:'));
    if (!data.length) return;
    clearTimeout(this.#timer);
    this.hear(data.map((line) => line.slice(5).trimStart()).join('\n'));
  }
}

class Polls extends OverHttp {
  name = '/poll';

  async run() {
    const query = new URLSearchParams({ wait: POLL_SECONDS });
    while (!this.ended) {
      const answer = await this.ask(`${this.name}?${query}`);
      if (!answer.ok) return this.refused(answer);
      const messages = await answer.json();
      for (const { type, poll, since } of messages) {
        if (type === 'connected') {
          // The place was lost; what was subscribed to is too.
          if (query.has('poll')) return { code: GOING_AWAY, reason: 'poll_ended' };
          query.set('poll', poll);
        } else if (type === 'heartbeat' && since !== undefined) query.set('since', since);
      }
      if (messages.length) this.hear(JSON.stringify(messages));
    }
  }
}
