// A plain WebSocket, and what a client does when it closes. docs/frontend.md tells the reasons.

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;
const SOUND_MS = 60_000; // a connection that has lasted for so long is no failed attempt

// After these, another attempt with the same token or the same code would end the same way.
const FINAL_REASONS = new Set(['token_missing', 'token_invalid', 'token_expired', 'flood']);

/** Whether a client should connect again after this close. */
export function shouldReconnect(code, reason) {
  return code !== 1000 && code !== 1009 && !(code === 1008 && FINAL_REASONS.has(reason));
}

/**
 * Keeps a connection, and tries for as long as nobody closes it.
 *
 * `events` is told: state(name, details), received(message), sent(message), closed(code, reason).
 * States: connecting, connected (the gateway has said so), waiting ({delay, attempt}), closed.
 */
export class Connection {
  constructor(address, token, events) {
    this.address = address;
    this.token = token;
    this.events = events;
    this.attempt = 0;
    this.connectedAt = Infinity;
    this.leaving = false;
  }

  open() {
    clearTimeout(this.timer);
    this.events.state('connecting');
    const url = new URL(this.address);
    url.searchParams.set('token', this.token);
    this.socket = new WebSocket(url);
    this.socket.onmessage = (event) => {
      // With ?batch=true one frame may hold an array of messages.
      for (const message of [JSON.parse(event.data)].flat()) this.receive(message);
    };
    this.socket.onclose = (event) => this.closed(event.code, event.reason);
  }

  receive(message) {
    if (message.type === 'connected') {
      // Not in onopen: a connection that is refused with 1008 has been open, too.
      this.connectedAt = Date.now();
      this.events.state('connected', { compression: this.socket.extensions });
    }
    this.events.received(message);
  }

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    this.events.sent(message);
    return true;
  }

  /** End the connection for good. */
  close() {
    this.leaving = true;
    clearTimeout(this.timer);
    if (this.socket.readyState === WebSocket.CLOSED) this.events.state('closed');
    else this.socket.close(1000);
  }

  closed(code, reason) {
    this.events.closed(code, reason);
    if (this.leaving || !shouldReconnect(code, reason)) {
      this.events.state('closed');
      return;
    }
    if (Date.now() - this.connectedAt > SOUND_MS) this.attempt = 0;
    this.connectedAt = Infinity;
    this.attempt += 1;
    const delay = Math.min(FIRST_DELAY_MS * 2 ** (this.attempt - 1), LONGEST_DELAY_MS);
    this.timer = setTimeout(() => this.open(), delay);
    this.events.state('waiting', { delay, attempt: this.attempt });
  }
}
