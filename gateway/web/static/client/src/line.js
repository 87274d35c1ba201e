import { Reconnecting } from './reconnecting.js';
import { report } from './report.js';
import { within } from './within.js';

const OPEN_MS = 20_000; // a handshake may wait 15 s for its turn
const ANSWER_MS = 10_000; // with the watchdog's 25 s a dead line is noticed within 35 s, as by centrifuge-js; more often would cost phones
const AWAKE_ANSWER_MS = 3_000; // when the device or the network is back, the user waits
const MOST_PATIENCE = 12;
const STEADY_MS = 60_000; // what came over a connection before says little of its line
const LATE_MS = 5_000; // a timer that comes so much too late has slept
const AGAIN_MS = 30_000;
const JUST_MS = 1_000;
const LONGEST_MS = 1e9; // a timer of more than 2^31 comes at once

/**
 * A connection that is made again whenever it is lost, until that is hopeless.
 *
 * `on.state(state, detail)`, `on.open(user)` when the gateway has let it in, and `on.message(message)` for what is not about
 * the connection itself.
 */
export class Line {
  #open;
  #token;
  #renews; // whether there is a new token for each attempt
  #quiet;
  #reconnecting;
  #on;
  #transport;
  #shown; // the token that the gateway has
  #renewing;
  #timer; // for the one thing that is waited for: an answer, silence, or the next attempt
  #begun = 0;
  #heard;
  #silent; // an answer is waited for, and nothing has been heard since
  #trouble; // of the attempt before
  #patience = 1; // grows with each wait in vain: a large message on a slow line is silent until it is complete
  state = 'waiting';
  attempt = 0; // which connection this is: what belongs to another one is over

  constructor(open, { token, watchdog = 25_000, backoff }, on) {
    this.#open = open;
    this.#token = token;
    this.#quiet = Math.min(Math.max(watchdog, JUST_MS), LONGEST_MS);
    this.#renews = typeof token === 'function';
    this.#reconnecting = new Reconnecting(backoff, token === undefined || this.#renews);
    this.#on = on;
  }

  async connect() {
    const attempt = this.#drop();
    this.#begun = Date.now();
    this.#become('connecting');
    let reason = this.#renews ? 'token_unavailable' : 'token_invalid';
    try {
      const token = await this.#fresh();
      if (attempt !== this.attempt) return;
      this.#shown = token;
      reason = 'connection_failed';
      this.#after(OPEN_MS, () => this.#lost({ reason: 'no_answer' }));
      const transport = await this.#open(token);
      if (attempt !== this.attempt) return transport.close();
      this.#transport = transport;
      transport.onmessage = (text) => this.#hear(text);
      transport.onclose = (end) => this.#lost(end);
    } catch (error) {
      if (this.#isNew(String(error))) report(error);
      if (attempt === this.attempt) this.#lost({ reason });
    }
  }

  /** Send a message; without a connection it is nobody's. */
  send(message) {
    if (this.state === 'open') this.#transport.send(JSON.stringify(message));
  }

  /** The device, the page or the network is back: what is waited for comes now, or never. */
  wake() {
    const age = Math.max(Date.now() - this.#begun, 0); // a clock may be set back
    if (this.state === 'open') {
      if (!this.#silent) this.#ask(AWAKE_ANSWER_MS);
    } else if (this.state === 'waiting') {
      this.#after(JUST_MS - age, () => this.connect()); // the last attempt may have been a moment too early
    } else if (this.state === 'connecting' && age > AWAKE_ANSWER_MS) {
      this.connect();
    }
  }

  /** Leave until `connect` is called. */
  pause(reason) {
    if (this.state === 'closed') return;
    this.#drop();
    this.#become('waiting', { reason });
  }

  close(detail) {
    this.#drop();
    this.#become('closed', detail);
  }

  // -- what comes ---------------------------------------------------------------------------------

  #hear(text) {
    const waited = this.#silent;
    this.#heard = Date.now();
    this.#silent = false;
    if (this.#heard - this.#begun > STEADY_MS) this.#patience = 1;
    try {
      for (const message of [JSON.parse(text)].flat()) {
        if (message.id && !waited) this.#patience = 1; // what was missed comes without a long silence: the line was dead, and is not slow
        this.#take(message);
      }
    } catch (error) {
      report(error);
    }
  }

  #take(message) {
    if (message.type === 'connected') {
      // Not in onopen: a connection that is refused has been open, too.
      this.#reconnecting.opened(Date.now());
      this.#trouble = undefined;
      this.#watch();
      this.#on.open(message.userId);
      this.#become('open'); // who hears of it may leave this connection
    } else if (message.type === 'token_expiring') {
      this.#renew(this.attempt);
    } else if (this.state === 'open' || this.#isNew(message.code)) {
      this.#on.message(message);
    }
  }

  /** What attempts fail for is told once, and not with each of them. */
  #isNew(trouble) {
    return this.#trouble !== (this.#trouble = trouble);
  }

  #lost({ code = 1006, reason, retryAfter }) {
    this.#drop();
    const pause = this.#reconnecting.pause(code, reason, Date.now(), retryAfter);
    if (pause === undefined) return this.close({ reason: reason || 'protocol_error', code });
    this.#after(pause, () => this.connect());
    this.#become('waiting', { reason: reason || 'connection_lost', code, retryIn: Math.round(pause) });
  }

  /** Leave the connection that there is: on a dead line its close would come minutes later. */
  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#renewing);
    const transport = this.#transport;
    this.#transport = undefined;
    if (transport) {
      transport.onmessage = transport.onclose = undefined;
      transport.close();
    }
    return ++this.attempt;
  }

  #become(state, detail) {
    this.state = state;
    this.#on.state(state, detail);
  }

  // -- the token ------------------------------------------------------------------------------------

  async #fresh() {
    const given = this.#renews ? await within(this.#token()) : this.#token;
    if (given === undefined && !this.#renews) return given; // there is a cookie
    const token = typeof given === 'string' && given.trim();
    // The class would name it in its error. It stands in no log.
    if (!/^[\w.-]+$/.test(token || '')) throw new Error('token: no JWT');
    return token;
  }

  async #renew(attempt) {
    const token = await this.#fresh().catch(report);
    if (attempt !== this.attempt) return;
    // A function that has no other yet is asked again.
    if (token && token !== this.#shown) this.send({ type: 'refresh', token: (this.#shown = token) });
    else this.#renewing = setTimeout(() => this.#renew(attempt), AGAIN_MS * Math.random());
  }

  // -- the watchdog -----------------------------------------------------------------------------------

  #watch() {
    this.#heard = Math.min(this.#heard, Date.now());
    this.#after(this.#heard + this.#quiet - Date.now(), (late) => {
      if (late) this.#ask(AWAKE_ANSWER_MS);
      else if (this.#heard + this.#quiet > Date.now()) this.#watch();
      else this.#ask(ANSWER_MS * this.#patience);
    });
  }

  /** Is anybody there? */
  #ask(ms, asked) {
    this.#silent = true;
    this.send({ type: 'heartbeat' });
    this.#after(ms, (late) => {
      if (!this.#silent) return this.#watch();
      // What came while it slept is read only now. But the timers of a hidden page are always late.
      if (late && !asked) return this.#ask(AWAKE_ANSWER_MS, true);
      this.#patience = Math.min(2 * this.#patience, MOST_PATIENCE);
      this.#lost({ reason: 'no_answer' });
    });
  }

  #after(ms, then) {
    const due = Date.now() + ms;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => then(Date.now() - due > LATE_MS), ms);
  }
}
