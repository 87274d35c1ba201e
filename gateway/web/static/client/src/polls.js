import { GOING_AWAY, OverHttp, passes, retryAfter } from './over-http.js';

const WAIT_SECONDS = 20; // less than the silence after which a client asks whether somebody is there
const APART_MS = 250; // a user may ask 200 times in ten seconds, from all devices
const EMPTY_APART_MS = 1_000; // something in between may answer at once, and has nothing to say
const AGAIN_MS = 1_000;
const MOST_FAILURES = 3;
const CUT_MS = 4_000;

/** Long polls. */
export class Polls extends OverHttp {
  path = '/poll';
  acksInTime = false; // the next poll shows what has come
  #wait = WAIT_SECONDS;
  #place;
  #since;

  async run() {
    for (let failures = 0; ; ) {
      const asked = Date.now();
      let messages;
      let after = 0;
      try {
        const answer = await this.#poll();
        after = retryAfter(answer);
        if (!answer.ok && !(this.#place && passes(answer))) return await this.refused(answer);
        messages = await answer.json();
        if (!Array.isArray(messages)) throw new TypeError('something has answered without messages');
        failures = 0;
      } catch (error) {
        if (this.over || !this.#place || ++failures > MOST_FAILURES) throw error;
        // What is in between may not wait for as long as the gateway.
        const took = Date.now() - asked;
        if (took > CUT_MS) this.#wait = Math.min(this.#wait, Math.floor(took / 2_000));
        await this.pause(after + AGAIN_MS);
        continue;
      }
      const connected = messages.find(({ type }) => type === 'connected');
      // The place was lost; what was subscribed to is too. The client comes back, and needs neither the old one nor this.
      if (connected && this.#place) {
        return this.giveBack([this.#place, connected.poll], { code: GOING_AWAY, reason: 'poll_ended' });
      }
      this.#place ??= connected.poll;
      for (const each of messages) {
        if (each.type === 'heartbeat') this.#since = each.since ?? this.#since;
        this.hear(each);
      }
      if (!messages.length) this.alive();
      const apart = messages.length ? APART_MS : EMPTY_APART_MS;
      await this.pause(asked + apart - Date.now());
      if (this.over) return;
    }
  }

  #poll() {
    const query = { wait: this.#wait, poll: this.#place, since: this.#since };
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    this.proven();
    return this.ask(`${this.path}?${given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')}`);
  }
}
