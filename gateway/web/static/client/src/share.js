// Tabs of one origin that connect to the same URL as the same user share one connection. The tab that holds a Web Lock has it,
// and speaks with the others over a BroadcastChannel. Each tab keeps its own positions, so that it goes on where it was whoever
// holds the connection next.

import { Hub } from './hub.js';

const ASK_MS = 500;
const TRIES = 3; // two WebSockets, and what there is in their place
const AGAIN_MS = 1_000;
const ANSWER_MS = 10_000;
const QUIET_MS = 20_000; // a line that has been silent for longer is watched by the leader's own client; but a hidden page's timers are late
const SILENT_MS = 1_200; // a leader that says nothing for so long is frozen, or its page hangs
const LATE_MS = 2_000; // who asks so late has slept, and does not judge; nor does a tab that nobody sees

/** Of what tabs say to each other: to be raised when that changes, since tabs of two versions share nothing. */
const VERSION = 1;

/** As `openDirectly(token)`, but shared where the browser and the token allow it. */
export function share(url, token, openDirectly) {
  const claims = claimsOf(token);
  if (!claims?.sub || !globalThis.navigator?.locks || !globalThis.BroadcastChannel) return openDirectly(token);
  // Never with another user, nor with one who may hear other channels.
  const { iss, sub, channels } = claims;
  const name = `realtime ${VERSION} ${JSON.stringify([url, iss, sub, channels])}`;
  let air;
  try {
    air = new BroadcastChannel(name);
  } catch {
    return openDirectly(token); // Firefox where cookies are blocked
  }
  return new Member(name, air, () => openDirectly(token));
}

function claimsOf(token) {
  try {
    const [, payload] = token.split('.');
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, '+').replace(/_/g, '/')), (each) => each.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

/** A tab's part in a shared connection; a transport, as src/websocket.js says. */
class Member {
  #id = `${Math.random()}${Math.random()}`.replace(/0\./g, '');
  #name;
  #openDirectly;
  #air;
  #welcome = false; // the tab that has the connection knows of this one
  #heard = Date.now();
  #asked = Date.now();
  #asking;
  #hub;
  #transport;
  #again;
  #doubting;
  #over = new AbortController();
  #letGo = []; // of the locks that are held

  constructor(name, air, openDirectly) {
    this.#name = name;
    this.#openDirectly = openDirectly;
    this.#air = air;
    this.#air.onmessage = ({ data }) => this.#hear(data);
    // While it is held the tab lives. The lock of a dead one goes to the leader, who waits for it.
    this.#hold(`${name} ${this.#id}`).then((held) => held && this.#join());
    this.#hold(name).then((held) => held && this.#chosen());
    this.#asking = setInterval(() => this.#ask(), ASK_MS);
  }

  send(text) {
    const message = JSON.parse(text);
    if (this.#hub) this.#hub.ask(this.#id, message);
    else this.#say({ ask: message, from: this.#id });
  }

  close() {
    if (this.#hub) this.#say({ gone: { code: 1001, reason: 'leader_left' } });
    else this.#say({ leave: this.#id });
    this.#end();
  }

  #end() {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    clearInterval(this.#asking);
    clearTimeout(this.#again);
    clearTimeout(this.#doubting);
    for (const each of this.#letGo) each();
    this.#air.close();
    if (this.#transport) {
      this.#transport.onmessage = this.#transport.onclose = undefined;
      this.#transport.close();
    }
  }

  #lost(end) {
    if (this.#over.signal.aborted) return;
    this.#end();
    this.onclose?.(end);
  }

  #say(message) {
    if (!this.#over.signal.aborted) this.#air.postMessage(message);
  }

  /** Whether the lock was to be had before the end. It is held until then. */
  #hold(name) {
    return new Promise((resolve) => {
      navigator.locks
        .request(name, { signal: this.#over.signal }, () => {
          resolve(true);
          return new Promise((letGo) => (this.#over.signal.aborted ? letGo() : this.#letGo.push(letGo)));
        })
        .catch(({ name }) => {
          if (name !== 'AbortError') return resolve(true); // no locks in this frame: it is alone
          resolve(false);
          // Another tab has taken it, since this one was silent.
          this.#lost({ code: 1001, reason: 'leader_left' });
        });
    });
  }

  // -- as a follower ------------------------------------------------------------------------------

  #join() {
    if (!this.#hub) this.#say({ join: this.#id });
  }

  #hear(message) {
    if (this.#hub) return this.#serve(message);
    if (message.leads) {
      this.#join();
    } else if (message.gone) {
      if (this.#welcome) this.#lost(message.gone);
    } else if (message.to?.includes(this.#id)) {
      this.#welcome = true;
      this.#heard = Date.now();
      if (message.text) this.onmessage?.(message.text);
    }
  }

  #ask() {
    if (this.#hub) return;
    const now = Date.now();
    const hidden = globalThis.document?.hidden;
    const late = now - this.#asked > LATE_MS;
    this.#asked = now;
    if (late || hidden) this.#heard = now;
    if (now - this.#heard > SILENT_MS) this.#takeOver();
    else if (!hidden) this.#say({ alive: this.#id });
  }

  /** The leader is silent: take its lock, so that it is free for all. */
  async #takeOver() {
    await navigator.locks.request(this.#name, { steal: true }, () => {});
    const gone = { code: 1001, reason: 'leader_left' };
    this.#say({ gone });
    this.#lost(gone);
  }

  // -- as the leader --------------------------------------------------------------------------------

  async #chosen() {
    // The one before has died. Whoever has begun there begins anew, this tab too.
    if (this.#welcome) return this.#lost({ code: 1001, reason: 'leader_left' });
    this.#hub = new Hub(
      (message) => this.#transport?.send(JSON.stringify(message)),
      (ids, text) => this.#tell(ids, text),
      this.#id,
    );
    this.#hub.join(this.#id);
    this.#say({ leads: true });
    this.#connect();
  }

  /** What has failed in this tab does so in the next one, which would count from nothing: the lead stays until all has been tried. */
  async #connect(tries = 1) {
    let heard = false;
    const ended = (end) => {
      if (heard || end.code !== 1006 || end.retryAfter || tries === TRIES) return this.#fail(end);
      this.#again = setTimeout(() => this.#connect(tries + 1), AGAIN_MS * Math.random());
    };
    let transport;
    try {
      transport = await this.#openDirectly();
    } catch {
      return ended({ code: 1006, reason: 'connection_failed' });
    }
    if (this.#over.signal.aborted) return transport.close();
    this.#transport = transport;
    transport.onmessage = (text) => {
      heard = true;
      this.#heard = Date.now();
      this.#doubting = clearTimeout(this.#doubting);
      this.#hub.hear(text);
    };
    transport.onclose = ended;
  }

  /** Another tab asks whether anybody is there. If nothing comes it would only come back to this line. */
  #doubt() {
    if (Date.now() - this.#heard > QUIET_MS && !globalThis.document?.hidden) return;
    this.#doubting ??= setTimeout(() => this.#fail({ code: 1006, reason: 'no_answer' }), ANSWER_MS);
  }

  #fail(end) {
    this.#say({ gone: end });
    this.#lost(end);
  }

  #tell(ids, text) {
    const others = ids.filter((id) => id !== this.#id);
    if (others.length) this.#say({ to: others, text });
    if (others.length < ids.length) this.onmessage?.(text);
  }

  #serve({ join, leave, ask, from, alive }) {
    if (join) {
      this.#say({ to: [join] });
      this.#hub.join(join);
      navigator.locks
        .request(`${this.#name} ${join}`, { signal: this.#over.signal }, () => this.#hub.leave(join))
        .catch(() => {}); // the leader has left first
    }
    if (leave) this.#hub.leave(leave);
    if (ask) this.#hub.ask(from, ask);
    if (ask?.type === 'heartbeat') this.#doubt();
    if (alive) this.#say({ to: [alive] });
  }
}
