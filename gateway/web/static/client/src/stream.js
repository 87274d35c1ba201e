import { bounded, FAILED, GOING_AWAY, OverHttp } from './over-http.js';

const SHORT_MS = 10_000;

/** Whether the platform gives an answer out before it has ended: React Native does not. */
export const canStream = () => 'body' in (globalThis.Response?.prototype ?? {}) && !!globalThis.TextDecoder;

/** An event stream. */
export class Stream extends OverHttp {
  path = '/sse';
  cut = false; // ended so soon that the next one would, too
  #isOpen = false;
  retry; // when to come back, as the gateway has said at the end

  async run() {
    const answer = await this.ask(this.path);
    if (!answer.ok) return this.refused(answer);
    if (!answer.headers.get('Content-Type')?.startsWith('text/event-stream')) return FAILED;
    const begun = Date.now();
    try {
      await this.#read(answer.body.getReader());
    } finally {
      this.cut = this.retry === undefined && Date.now() - begun < SHORT_MS;
    }
    return this.cut ? FAILED : { code: GOING_AWAY, reason: 'stream_ended', retryAfter: this.retry };
  }

  async #read(reader) {
    const decoder = new TextDecoder(); // not each browser has a TextDecoderStream
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + decoder.decode(value, { stream: true })).split('\n\n');
      rest = events.pop();
      for (const event of events) this.#take(event);
    }
  }

  #take(event) {
    // What is said at the beginning is for an `EventSource`, whose pauses never grow.
    const [, retry] = /^retry: ?(\d+)$/m.exec(event) ?? [];
    if (retry && this.#isOpen) this.retry = bounded(retry);
    const data = event.split('\n').filter((line) => line.startsWith('data:'));
    if (!data.length) return this.alive();
    this.#isOpen = true;
    const text = data.map((line) => line.slice(5).trimStart()).join('\n');
    this.hear(JSON.parse(text), text);
  }
}
