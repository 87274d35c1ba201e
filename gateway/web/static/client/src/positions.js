import { report } from './report.js';
import { within } from './within.js';

const SAVE_MS = 200;

/** Up to where each channel has been received: in memory, and in a store where there is one. */
export class Positions {
  #known = new Map();
  #changed = new Map();
  #opening;
  #store;
  #timer;

  /** `opening`: a promise of a store with `load(user)` and `save(changes)`, or of nothing. */
  constructor(opening) {
    this.#opening = opening;
  }

  get(channel) {
    return this.#known.get(channel);
  }

  /** `undefined` forgets it. */
  set(channel, id) {
    if (this.#known.get(channel) === id) return;
    this.#known.set(channel, id);
    if (!this.#store) return;
    this.#changed.set(channel, id);
    // A browser may end a page without a word. And a store keeps the greater of two, so what is forgotten cannot wait.
    if (!this.#timer || id === undefined) this.save();
  }

  /** Begin with what was stored for a user. */
  async load(user) {
    this.save();
    const known = (this.#known = new Map());
    const loading = this.#opening.then((store) => (this.#store = store)?.load(user));
    try {
      for (const [channel, id] of (await within(loading)) ?? []) {
        if (id >= 0 && Number.isSafeInteger(id)) known.set(channel, id);
      }
    } catch (error) {
      report(error); // positions are in memory
    }
  }

  /** A store that does not keep them is nobody else's trouble. */
  async save() {
    clearTimeout(this.#timer);
    const changed = this.#changed;
    this.#timer = changed.size && setTimeout(() => this.save(), SAVE_MS);
    this.#changed = new Map();
    try {
      if (changed.size) await this.#store?.save(changed);
    } catch (error) {
      report(error);
    }
  }
}
