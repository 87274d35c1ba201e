/**
 * What the tab does that holds the connection for all: `tell(ids, text)` hands a message to tabs, `send(message)` to the gateway.
 *
 * The gateway sees one subscription to each channel, and one question about it at a time. A tab hears a channel from the answer
 * to its own question on. A replay for one tab reaches the others too: what they have had already they leave out by themselves.
 *
 * What the gateway has sent counts as received. Where all who wanted it have left by then, the next one who wants it asks for it again.
 */
export class Hub {
  #send;
  #tell;
  #own; // the tab that holds the connection
  #tabs = new Set();
  #channels = new Map();
  #unheard = new Map(); // behind which message of a channel nobody has heard what came
  #connected;

  constructor(send, tell, own) {
    this.#send = send;
    this.#tell = tell;
    this.#own = own;
  }

  join(id) {
    if (this.#tabs.has(id)) return;
    this.#tabs.add(id);
    if (this.#connected) this.#tell([id], this.#connected);
  }

  /** A tab has closed, or is dead. */
  leave(id) {
    this.#tabs.delete(id);
    for (const channel of [...this.#channels.values()]) this.#leave(channel, id);
  }

  /** A tab wants something of the gateway. */
  ask(id, message) {
    if (!this.#tabs.has(id)) return;
    const { type, channel: name } = message;
    if (type === 'subscribe') {
      // Who hears it (`live`, each from behind which message on), whose questions wait (`next`), which answer is waited for (`pending`) and by whom (`asker`).
      const channel = this.#channels.get(name) ?? { name, live: new Map(), next: [], open: false };
      this.#channels.set(name, channel);
      channel.next.push({ id, message });
      this.#go(channel);
    } else if (type === 'unsubscribe') {
      this.#tell([id], JSON.stringify({ type: 'unsubscribed', channel: name }));
      const channel = this.#channels.get(name);
      if (channel) this.#leave(channel, id);
    } else {
      this.#send(message);
    }
  }

  /** The gateway has said something. */
  hear(text) {
    const message = JSON.parse(text);
    if (Array.isArray(message)) for (const each of message) this.#hear(each, JSON.stringify(each));
    else this.#hear(message, text);
  }

  #hear(message, text) {
    const { type, channel: name } = message;
    const channel = this.#channels.get(name);
    if (type === 'connected') this.#connected = text;
    if (type === 'token_expiring') this.#tell([this.#own], text); // one of them renews it
    else if (name === undefined || type === 'granted') this.#tell([...this.#tabs], text);
    else if (!channel) return;
    else if (type === 'subscribed') this.#subscribed(channel, message);
    else if (type === 'unsubscribed' && !message.reason) this.#unsubscribed(channel);
    else if (type === 'unsubscribed') this.#ended(channel, text);
    else if (message.code === 'not_subscribed') return; // an ack came too late
    else if (type === 'error' && message.code !== 'messages_lost') this.#failed(channel, text);
    else this.#deliver(channel, message, text);
  }

  #deliver(channel, { id, code }, text) {
    if (code) {
      // Messages are lost; what follows may have lower ids.
      channel.last = undefined;
      this.#unheard.delete(channel.name);
      for (const each of channel.live.keys()) channel.live.set(each, undefined);
    }
    if (!channel.live.size) this.#unheard.set(channel.name, this.#unheard.get(channel.name) ?? channel.last ?? (id && id - 1));
    if (id > (channel.last ?? 0)) channel.last = id;
    this.#tell(
      [...channel.live].filter(([, floor]) => !(id <= floor)).map(([each]) => each),
      text,
    );
  }

  #subscribed(channel, message) {
    channel.open = true;
    channel.last ??= message.position;
    if (channel.pending === 'subscribe') {
      channel.pending = undefined;
      if (channel.asker !== undefined) {
        if (channel.since <= this.#unheard.get(channel.name)) this.#unheard.delete(channel.name);
        channel.live.set(channel.asker, channel.floor);
        // A tab that comes later begins here, and goes on from here when it has heard nothing yet.
        const answer = { position: channel.floor, ...message };
        if (channel.own === undefined) answer.recovered &&= undefined; // the position was not its own
        this.#tell([channel.asker], JSON.stringify(answer));
      }
    }
    this.#go(channel);
  }

  #unsubscribed(channel) {
    channel.open = false;
    if (channel.pending === 'unsubscribe') channel.pending = undefined;
    this.#go(channel);
  }

  /** The gateway has ended the subscription: nobody hears it any more. A question that is under way has an answer of its own. */
  #ended(channel, text) {
    channel.open = false;
    const ids = [...channel.live.keys()];
    channel.live.clear();
    this.#tell(ids, text);
    this.#go(channel);
  }

  /** The gateway has refused a question: that concerns who has asked. */
  #failed(channel, text) {
    if (channel.pending === 'subscribe') {
      channel.pending = undefined;
      if (channel.asker !== undefined) this.#tell([channel.asker], text);
    }
    this.#go(channel);
  }

  #leave(channel, id) {
    channel.next = channel.next.filter((each) => each.id !== id);
    channel.live.delete(id);
    if (channel.asker === id) channel.asker = undefined;
    this.#go(channel);
  }

  #go(channel) {
    if (channel.pending) return;
    const question = channel.next.shift();
    if (question) {
      channel.pending = 'subscribe';
      channel.asker = question.id;
      // A tab without a position hears what is new, also where another one has old messages sent again.
      // What nobody hears comes behind this answer, or has come.
      const unheard = this.#unheard.get(channel.name) ?? (channel.open && !channel.live.size ? channel.last : undefined);
      channel.own = question.message.since;
      channel.since = channel.own ?? unheard;
      channel.floor = channel.open && channel.since === undefined ? channel.last : undefined;
      this.#send({ ...question.message, since: channel.since });
    } else if (channel.live.size) {
      return;
    } else if (channel.open) {
      channel.pending = 'unsubscribe';
      this.#send({ type: 'unsubscribe', channel: channel.name });
    } else {
      this.#channels.delete(channel.name);
    }
  }
}
