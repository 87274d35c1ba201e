// When a client connects again, and when it gives up; pure. The rules are those of docs/protocol.md, "Close codes".

const LASTED_MS = 60_000; // what has ended a connection sooner may end the next one as soon as it is open
const DRAIN_MS = 1_000; // other nodes are there, but not for all clients in one instant
const TAKE_OVER_MS = 100; // the tab with the shared connection has left it, and the next one takes it
const SETTLED_MS = 5_000; // who leaves sooner, again and again, is in trouble

const HOPELESS = [1002, 1007, 1009, 'token_missing', 'flood', 'replaced'];
const OLD_TOKEN = ['token_invalid', 'token_expired', 'token_revoked'];

/** The pauses between attempts: full jitter, up to `min` at first, twice as long each time, up to `max` (milliseconds). */
export class Reconnecting {
  #min;
  #max;
  #attempts = 0;
  #openedAt;
  #before; // why the attempt before has ended

  constructor({ min = 1_000, max = 30_000 } = {}, renews = true) {
    this.#min = min;
    this.#max = max;
    this.renews = renews; // whether there is a new token for each attempt
  }

  /** The gateway has let the client in. */
  opened(now) {
    this.#openedAt = now;
    this.#before = undefined;
  }

  /** Milliseconds to wait before the next attempt, `retryAfter` at least; `undefined` where none is of any use. */
  pause(code, reason, now, retryAfter = 0) {
    // The login may have changed its keys a moment ago: after a token that was invalid one new one is tried.
    const isHopeless = OLD_TOKEN.includes(reason)
      ? !this.renews || (reason === 'token_invalid' && reason === this.#before)
      : HOPELESS.includes(code) || HOPELESS.includes(reason);
    if (isHopeless) return undefined;
    this.#before = reason;
    const lived = now - (this.#openedAt ?? now);
    this.#openedAt = undefined;
    if (lived > LASTED_MS) this.#attempts = 0;
    const first = { leader_left: TAKE_OVER_MS, websocket_found: 0 }[reason] ?? (code === 1001 ? DRAIN_MS : Math.max(this.#min, 1));
    const times = code === 1001 && lived > SETTLED_MS ? 0 : this.#attempts++;
    return retryAfter + Math.random() * Math.min(first * 2 ** times, reason === 'leader_left' ? DRAIN_MS : this.#max);
  }
}
