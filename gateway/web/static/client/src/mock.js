// A gateway inside the page, for the tests of a front end: no server, no network, no timers.
//
//   const gateway = mockRealtime({ user: 'ann' });
//   const realtime = new Realtime(gateway.url, gateway.options);
//   gateway.publish('notifications/ann', { text: 'hello' });

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;
const TURNS = 20; // of microtasks: a real socket opens when all who made it listen; timers may be those of a test

const NAME = /^[\w.:@-]+\/[^\p{Cc}\p{Cs}]+$/u;
const MOST_BYTES = 255;

const isName = (name) => NAME.test(name) && new TextEncoder().encode(name).length <= MOST_BYTES;

class Channel {
  log = [];
  had = 0; // up to which id the user has messages
  forbidden = false;

  /** What a subscribe brings. */
  after(since = this.had) {
    return this.log.filter(({ id }) => id > since);
  }
}

class MockSocket {
  readyState = CONNECTING;
  channels = new Set();

  constructor(gateway) {
    this.gateway = gateway;
    this.open();
  }

  async open() {
    for (let turn = 0; turn < TURNS; turn++) await undefined;
    if (this.readyState !== CONNECTING || !this.gateway.reachable) return;
    this.readyState = OPEN;
    this.onopen?.({});
    const { user } = this.gateway;
    this.say({ type: 'connected', message: 'WebSocket connection established', userId: user });
  }

  /** Have the client hear something: never while it speaks. */
  say(message) {
    queueMicrotask(() => this.readyState !== CLOSED && this.onmessage?.({ data: JSON.stringify(message) }));
  }

  refuse(code, message, channel, detail) {
    this.say({ type: 'error', code, message, help: `docs/errors.md#${code}`, detail, channel });
  }

  send(text) {
    if (this.readyState === CONNECTING) throw new Error('the socket is not open');
    if (this.readyState === OPEN) this.gateway.take(this, JSON.parse(text));
  }

  close(code = 1000) {
    this.end(code, '');
  }

  /** What it was told before arrives before. */
  end(code, reason) {
    if (this.readyState >= CLOSING) return;
    this.readyState = CLOSING;
    this.gateway.connections.delete(this);
    queueMicrotask(() => {
      this.readyState = CLOSED;
      this.onclose?.({ code, reason });
    });
  }
}

class MockGateway {
  url = 'ws://gateway.invalid';
  connections = new Set();
  received = [];
  reachable = true;
  #channels = new Map();
  #id = 1_700_000_000_000_000;

  constructor(user) {
    this.user = user;
    const gateway = this;
    /** A class in the place of `WebSocket`. */
    this.WebSocket = function WebSocket() {
      const socket = new MockSocket(gateway);
      gateway.connections.add(socket);
      return socket;
    };
  }

  /** What `new Realtime(gateway.url, gateway.options)` needs; spread it to add others. */
  get options() {
    return { token: async () => 'token', WebSocket: this.WebSocket, backoff: { min: 0 }, fallback: false };
  }

  /** Publish a message; who has subscribed has it, and who comes later, too. */
  publish(channel, data) {
    const id = ++this.#id;
    const [type] = channel.split('/');
    const message = { type, channel, data, timestamp: Math.floor(id / 1000), id };
    const { log } = this.#channel(channel);
    log.push(message);
    for (const socket of this.connections) this.#deliver(socket, message);
    return message;
  }

  /** Refuse a channel, or take it back from who hears it. */
  forbid(channel) {
    this.#channel(channel).forbidden = true;
    for (const socket of this.connections) {
      if (socket.channels.delete(channel)) socket.say({ type: 'unsubscribed', channel, reason: 'revoked' });
    }
  }

  /** Open it again, and tell. */
  grant(channel) {
    this.#channel(channel).forbidden = false;
    for (const socket of this.connections) socket.say({ type: 'granted', channel });
  }

  /** Let the messages of a channel be gone, and who hears it be told. */
  lose(channel) {
    this.#channel(channel).log.length = 0;
    for (const socket of this.connections) {
      if (socket.channels.has(channel)) socket.refuse('messages_lost', 'Messages were lost', channel);
    }
  }

  /** Let the token of each connection end soon. */
  expireTokens() {
    for (const socket of this.connections) socket.say({ type: 'token_expiring', expiresAt: Date.now() + 60_000 });
  }

  /** End all connections, as a gateway or the network does. */
  disconnect(code = 1006, reason = '') {
    for (const socket of [...this.connections]) socket.end(code, reason);
  }

  /** No network: connections end, and new ones get no answer until `online()`. */
  offline() {
    this.reachable = false;
    this.disconnect();
  }

  online() {
    this.reachable = true;
    for (const socket of this.connections) if (socket.readyState === CONNECTING) socket.open();
  }

  take(socket, message) {
    this.received.push(message);
    const { type, channel, since } = message;
    if (type === 'heartbeat') socket.say({ type, timestamp: Date.now() });
    else if (type === 'subscribe') this.#subscribe(socket, channel, since);
    else if (type === 'unsubscribe') {
      socket.channels.delete(channel);
      socket.say({ type: 'unsubscribed', channel });
    }
  }

  #subscribe(socket, name, since) {
    if (!isName(name)) return socket.refuse('invalid_channel', 'Invalid channel name', name, 'a channel is <namespace>/<id>');
    const channel = this.#channel(name);
    if (channel.forbidden) return socket.refuse('forbidden', 'Not allowed to subscribe to this channel', name);
    const isNew = !socket.channels.has(name);
    socket.channels.add(name);
    const [first] = channel.log;
    // Of what came behind `since` nothing may be gone.
    const recovered = since === undefined ? undefined : !since || (first !== undefined && first.id <= since);
    socket.say({ type: 'subscribed', channel: name, recovered });
    if (!isNew && since === undefined) return;
    for (const message of channel.after(since)) this.#deliver(socket, message);
  }

  #deliver(socket, message) {
    if (socket.readyState !== OPEN || !socket.channels.has(message.channel)) return;
    const channel = this.#channel(message.channel);
    channel.had = Math.max(channel.had, message.id);
    socket.say(message);
  }

  #channel(name) {
    if (!this.#channels.has(name)) this.#channels.set(name, new Channel());
    return this.#channels.get(name);
  }
}

export const mockRealtime = ({ user = 'user-1' } = {}) => new MockGateway(user);
