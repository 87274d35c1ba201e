import { report } from './report.js';
import { Subscription } from './subscription.js';
import { within } from './within.js';

const AGAIN_MS = 30_000;
const REFUSED_MS = 240_000; // a node remembers a refusal for five minutes, and tells of a grant until then
const NEW_TOKEN_MS = 5_000; // a channel token that was asked for so lately is not old
const ACK_MS = 1_000;
const ACKS_PER_SECOND = 50; // half of what a connection may send

const PASSING = ['channel_full', 'internal_error', 'token_key_unknown', 'token_unavailable', 'too_many_subscriptions'];
const REFUSALS = ['forbidden', 'expired', 'revoked', 'grant_lost'];
const OLD_TOKEN = ['expired', 'token_expired', 'token_not_yet_valid'];

/** The channels of a client, each with one subscription at the gateway and any number of subscribers here. */
export class Channels {
  #channels = new Map();
  #leaving = new Set(); // until the gateway has said so: what comes meanwhile is nobody's, and no question is asked
  #acks = new Map();
  #acking;
  #open;
  #send;
  #emit;
  #positions;

  constructor(send, emit, positions) {
    this.#send = send;
    this.#emit = emit;
    this.#positions = positions;
  }

  /** Returns a function that leaves the channel; given `true` the message that is being processed counts as done. */
  subscribe(name, callback, options) {
    const channel = this.#channels.get(name) ?? { name, subscribers: new Set(), wanting: new Set(), refusals: 0 };
    this.#channels.set(name, channel);
    const subscriber = new Subscription(callback, options, {
      processed: () => this.#moved(channel),
      drained: () => this.#want(channel, [subscriber]),
      missed: () => this.#gap(channel, [subscriber]),
    });
    channel.subscribers.add(subscriber);
    this.#want(channel, [subscriber]);
    return (done) => this.#leave(channel, subscriber, done);
  }

  /** The gateway has let the client in. */
  opened() {
    this.#open = true;
    for (const channel of this.#channels.values()) {
      for (const each of channel.subscribers) each.resume();
      this.#want(channel, channel.subscribers);
    }
  }

  /** It is another user: nothing of the one before counts. */
  reset() {
    for (const channel of this.#channels.values()) {
      for (const each of channel.subscribers) {
        each.stop();
        each.begin(each.options.since);
      }
    }
  }

  /** The connection is lost. */
  lost() {
    this.#open = false;
    this.#leaving.clear();
    this.#acks.clear();
    for (const channel of this.#channels.values()) this.#end(channel);
  }

  /** No connection is made any more. */
  ended(error) {
    for (const channel of this.#channels.values()) {
      for (const each of channel.subscribers) each.tell('onEnd', error);
    }
  }

  // -- what the gateway says ------------------------------------------------------------------------

  hear(message) {
    const { type, channel: name } = message;
    const channel = this.#channels.get(name);
    if (this.#leaving.has(name)) {
      // What comes behind it counts as received: who comes back asks for it again. One that came with a position said where it begins itself.
      if (type === 'subscribed') message.recovered ?? this.#positions.set(name, this.#positions.get(name) ?? message.position);
      if (type === 'unsubscribed' && !message.reason) {
        this.#leaving.delete(name);
        if (channel) this.#want(channel, []);
      }
    } else if (channel) {
      if ('data' in message) this.#deliver(channel, message);
      else if (type === 'subscribed') this.#subscribed(channel, message);
      else if (type === 'granted') this.#want(channel, channel.subscribers);
      else if (type === 'unsubscribed') this.#ended(channel, message.reason);
      else if (type === 'error') this.#failed(channel, message);
    }
  }

  #deliver(channel, message) {
    if (message.id > (channel.last ?? 0)) channel.last = message.id;
    for (const each of [...channel.subscribers]) each.take(message);
    this.#store(channel);
  }

  #subscribed(channel, { recovered, position }) {
    const asked = channel.asking ?? [];
    channel.asking = undefined;
    channel.live = true;
    channel.refusals = 0;
    if (recovered === false) this.#gap(channel, asked);
    channel.last ??= position;
    for (const each of asked) {
      // Before its first message it goes on here, too: another device may receive what comes meanwhile.
      each.last ?? each.begin(position);
      each.live = true;
      each.tell('onSubscribed');
    }
    this.#want(channel, channel.wanting);
    this.#store(channel);
  }

  #gap(channel, subscribers) {
    channel.last = undefined;
    this.#acks.delete(channel.name);
    this.#positions.set(channel.name, undefined);
    for (const each of subscribers) each.lose();
    this.#emit('gap', { channel: channel.name });
  }

  /** The gateway has ended the subscription. A question about it that is under way has an answer of its own. */
  #ended(channel, code) {
    channel.live = false;
    const heard = [...channel.subscribers].filter((each) => !channel.asking?.includes(each));
    this.#refused(channel, heard, { code, message: 'ended' });
  }

  #failed(channel, error) {
    if (error.code === 'messages_lost') return this.#gap(channel, channel.subscribers);
    const asked = channel.asking;
    if (!asked || error.code === 'not_subscribed') return this.#emit('error', error); // answers something else
    // What was there before goes on. The token was of one of them: the others ask with their own.
    const { token } = channel;
    channel.asking = channel.token = undefined;
    this.#refused(channel, asked.filter((each) => each.options.token === token), error);
    this.#want(channel, asked.filter((each) => each.options.token !== token));
  }

  /** These cannot hear the channel, or not any more. */
  #refused(channel, refused, answer) {
    const { code } = answer;
    for (const each of refused) each.live = false;
    const renews = OLD_TOKEN.includes(code) && refused.some((each) => typeof each.options.token === 'function');
    if (renews && !(Date.now() - channel.shown < NEW_TOKEN_MS)) return this.#want(channel, refused);
    const passes = renews || PASSING.includes(code);
    if (passes) this.#later(channel, Math.random() * Math.min(AGAIN_MS * 2 ** channel.refusals++, REFUSED_MS));
    else if (REFUSALS.includes(code)) this.#later(channel, REFUSED_MS);
    const error = { ...answer, channel: channel.name };
    this.#emit('error', error);
    for (const each of refused) each.tell('onError', error, passes);
  }

  // -- asking for a channel -------------------------------------------------------------------------

  /** Ask for a channel on behalf of these. One question at a time: the gateway would answer two of them as one. */
  #want(channel, subscribers) {
    for (const each of subscribers) {
      // Without a position it goes on where the channel is.
      const goesOn = channel.live && !each.live && each.last === undefined;
      if (goesOn) each.begin(channel.last);
      // A text that the gateway has not seen may open the channel for longer.
      if (goesOn && (typeof each.options.token !== 'string' || each.options.token === channel.token)) {
        each.live = true;
        Promise.resolve().then(() => each.tell('onSubscribed'));
      } else {
        channel.wanting.add(each);
      }
    }
    if (this.#open && !channel.asking && !this.#leaving.has(channel.name)) this.#ask(channel);
  }

  async #ask(channel) {
    const asking = [...channel.subscribers].filter((each) => !each.live && channel.wanting.has(each));
    channel.wanting.clear();
    if (!asking.length) return;
    channel.asking = asking;
    const message = { type: 'subscribe', channel: channel.name };
    const token = (channel.token = asking.find((each) => each.options.token)?.options.token);
    if (token) {
      try {
        message.token = typeof token === 'function' ? await within(token()) : token;
      } catch (error) {
        report(error);
        if (asking === channel.asking) this.#failed(channel, { code: 'token_unavailable', message: 'no token' });
        return;
      }
      if (asking !== channel.asking) return; // another connection has begun, or nobody wants it any more
      channel.shown = Date.now();
    }
    // Who has no position and shares the question with one that has gets all from there on.
    for (const each of asking) each.last ?? each.begin(this.#positions.get(channel.name));
    // Behind the first of those that are known.
    for (const { last } of asking) if (!(last >= message.since)) message.since = last ?? message.since;
    this.#send(message);
  }

  #later(channel, ms) {
    clearTimeout(channel.timer);
    channel.timer = setTimeout(() => this.#want(channel, channel.subscribers), ms);
  }

  #end(channel) {
    clearTimeout(channel.timer);
    channel.live = false;
    channel.asking = undefined;
    for (const each of channel.subscribers) each.live = false;
  }

  #leave(channel, subscriber, done) {
    subscriber.stop(done);
    subscriber.options = {}; // none of its functions is called any more
    if (!channel.subscribers.delete(subscriber)) return;
    if (channel.subscribers.size) return this.#moved(channel);
    this.#end(channel);
    this.#channels.delete(channel.name);
    if (!this.#open || this.#leaving.has(channel.name)) return;
    this.#leaving.add(channel.name);
    this.#send({ type: 'unsubscribe', channel: channel.name });
  }

  // -- positions ------------------------------------------------------------------------------------

  #moved(channel) {
    // NaN where one of them has done nothing yet.
    const done = Math.min(...[...channel.subscribers].filter((each) => each.options.ack).map((each) => each.done));
    if (channel.live && done < Infinity) {
      this.#acks.set(channel.name, done);
      this.#acking ??= setTimeout(() => this.sendAcks(), Math.max(ACK_MS, (1_000 * this.#acks.size) / ACKS_PER_SECOND));
    }
    this.#store(channel);
  }

  #store(channel) {
    // NaN where one of them has no position.
    const reached = Math.min(...[...channel.subscribers].map((each) => each.reached));
    if (reached < Infinity) this.#positions.set(channel.name, reached);
  }

  /** Tell the gateway what has been processed. */
  sendAcks() {
    clearTimeout(this.#acking);
    this.#acking = undefined;
    for (const [channel, id] of this.#acks) this.#send({ type: 'ack', channel, id });
    this.#acks.clear();
  }
}
