import { report } from './report.js';

// React Native has no events of its own.
const Plain = class {
  #listeners = {};
  addEventListener(type, listener) {
    (this.#listeners[type] ??= new Set()).add(listener);
  }
  removeEventListener(type, listener) {
    this.#listeners[type]?.delete(listener);
  }
  dispatchEvent(event) {
    for (const each of this.#listeners[event.type] ?? []) new Promise(() => each(event)).catch(report);
  }
};

const native = globalThis.CustomEvent && globalThis.EventTarget;

export const Target = native ?? Plain;

export const event = (type, detail) => (native ? new CustomEvent(type, { detail }) : { type, detail });
