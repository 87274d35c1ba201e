import { Channels } from './channels.js';
import { choosing } from './choosing.js';
import { event, Target } from './events.js';
import { Line } from './line.js';
import { loop } from './loop.js';
import { Positions } from './positions.js';
import { report } from './report.js';

/** What ends a `for await` over a channel: `code` as in docs/protocol.md, and the `channel`. */
export class RealtimeError extends Error {
  constructor({ code, message, channel }) {
    super(message);
    this.name = 'RealtimeError';
    this.code = code;
    this.channel = channel;
  }
}

/** A client that stays connected. What it promises: docs/javascript-client.md. */
export class Realtime extends Target {
  #line;
  #channels;
  #positions;
  #loading; // of the positions of this user
  #ended; // why, where no connection is made any more
  #undo = []; // of the listeners; undefined once the client has been left for good

  constructor(url, options = {}) {
    super();
    const address = addressOf(url);
    const open = choosing(address, options.WebSocket ?? globalThis.WebSocket, options.fallback ?? true);
    this.#line = new Line(sharing(options.share, address, open), options, {
      state: (state, detail) => this.#become(state, detail),
      open: (user) => this.#opened(user),
      message: (message) => this.#hear(message),
    });
    this.#positions = new Positions(storeOf(options.storage, address).catch(report));
    this.#channels = new Channels(
      (message) => this.#line.send(message),
      (type, detail) => this.#emit(type, detail),
      this.#positions,
    );
    this.#listen();
    Promise.resolve().then(() => this.connect()); // who has made it can listen first
  }

  /** `connecting`, `open`, `waiting` or `closed`. */
  get state() {
    return this.#line.state;
  }

  /** Connect at once, also where the gateway has ended the connection for good; not after `close`. */
  connect() {
    if (this.#undo) this.#line.connect();
  }

  /** Look at once whether the line is alive, or connect at once where an attempt is waited for. */
  wake() {
    this.#line.wake();
  }

  subscribe(channel, callback, options = {}) {
    if (typeof channel !== 'string' || typeof callback !== 'function') {
      throw new TypeError('subscribe(string, function)');
    }
    const leave = this.#channels.subscribe(channel, callback, options);
    return { unsubscribe: () => leave() };
  }

  channel(name, options) {
    return loop((take, end) => {
      const ended = (error) => end(error.code === 'closed' ? undefined : new RealtimeError({ channel: name, ...error }));
      const onError = (error, passes) => (passes ? options?.onError?.(error) : ended(error));
      // Without `ack` a message on which the loop was left is one that it has had.
      const leave = this.#channels.subscribe(name, (_, message) => take(message), { ...options, inTurn: true, onError, onEnd: ended });
      if (this.#ended) Promise.resolve().then(() => this.#ended && ended(this.#ended)); // it may connect by then
      return (done) => leave(done && !options?.ack);
    });
  }

  /** Leave for good. */
  close() {
    this.#channels.sendAcks();
    this.#positions.save();
    this.#undo?.forEach((each) => each());
    this.#undo = undefined;
    this.#line.close({ reason: 'closed', code: 1000 });
  }

  // -- from the line --------------------------------------------------------------------------------

  #become(state, detail) {
    if (state !== 'open') this.#channels.lost();
    this.#ended = state === 'closed' && { code: detail.reason, message: detail.reason };
    this.#emit('state', { state, ...detail });
    if (this.#ended) this.#channels.ended(this.#ended);
  }

  async #opened(user) {
    const { attempt } = this.#line;
    if (this.userId !== user) {
      this.userId = user;
      this.#channels.reset();
      this.#loading = this.#positions.load(user);
    }
    await this.#loading;
    if (attempt === this.#line.attempt) this.#channels.opened();
  }

  #hear(message) {
    if (message.channel !== undefined) this.#channels.hear(message);
    else if (message.type === 'error') this.#emit('error', message);
  }

  #emit(type, detail) {
    this.dispatchEvent(event(type, detail));
  }

  // -- from the page --------------------------------------------------------------------------------

  #listen() {
    const on = (target, type, then) => {
      target?.addEventListener?.(type, then);
      this.#undo.push(() => target?.removeEventListener?.(type, then));
    };
    on(globalThis, 'online', () => this.wake());
    // A phone tells of each mast, and a desktop of each new estimate: only another kind of network is another network.
    const { connection } = globalThis.navigator ?? {};
    let type = connection?.type;
    on(connection, 'change', () => type !== (type = connection.type) && this.wake());
    on(globalThis.document, 'visibilitychange', () => document.hidden || this.wake());
    // A page that may come back from the back/forward cache keeps no connection there, and no place.
    on(globalThis, 'pagehide', () => {
      this.#channels.sendAcks();
      this.#positions.save();
      this.#line.pause('page_hidden');
    });
    on(globalThis, 'pageshow', ({ persisted }) => persisted && this.state !== 'closed' && this.connect());
  }
}

/** The way to connect where tabs share a connection: `true`, or the function of client/share.js itself. */
function sharing(wanted, address, open) {
  if (!wanted) return open;
  const load = async () => (typeof wanted === 'function' ? wanted : (await import('./client/share.js')).share);
  const loading = load().catch(report); // then each tab has its own
  return async (token) => (await loading)?.(address, token, open) ?? open(token);
}

/** The store for positions: its name, or the function of client/storage.js itself where nothing may be loaded on demand. */
async function storeOf(storage, address) {
  if (!storage || storage === 'memory') return undefined;
  const open = typeof storage === 'function' ? storage : (await import('./client/storage.js')).named(storage);
  return open(address);
}

function addressOf(url) {
  const here = globalThis.location?.href;
  // Not each platform has all of URL.
  const address = /^\w+:/.test(url) || !here ? String(url) : new URL(url, here).href;
  const found = address.replace(/^http/i, 'ws');
  if (!/^wss?:/i.test(found)) throw new TypeError('url: no ws: or http:');
  return found;
}
