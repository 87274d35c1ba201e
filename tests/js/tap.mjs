// Lets pytest watch and steer a client that knows nothing of it: the client finds `WebSocket` where a
// browser has it, each event of a socket becomes a line of JSON on standard output, and each line of
// JSON on standard input is a command.

import { createInterface } from 'node:readline';
import WS from 'ws';

export function report(event, details) {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}

// Standard output is the test's; what a client tells the console is for people.
console.log = console.error;

const watched = (Native) =>
  class extends Native {
    constructor(...given) {
      super(...given);
      this.addEventListener('open', () => report('open', { extensions: this.extensions }));
      this.addEventListener('message', ({ data }) => {
        // `received`: bytes on the wire since the connection was opened, which only the package `ws` tells.
        report('message', { message: JSON.parse(data), received: this._socket?.bytesRead });
      });
      this.addEventListener('close', ({ code, reason }) => report('close', { code, reason }));
    }
  };

// With NATIVE in the environment the platform's own class, which Node has from version 22 on.
globalThis.WebSocket = watched(process.env.NATIVE ? globalThis.WebSocket : WS);

/** The same for another class with its interface. */
export function tapped(Socket) {
  return function Tapped(...given) {
    const socket = new Socket(...given);
    let hear;
    Object.defineProperty(socket, 'onmessage', {
      get: () => hear,
      set(then) {
        hear = (event) => {
          report('message', { message: JSON.parse(event.data) });
          then?.(event);
        };
      },
    });
    return socket;
  };
}

/** Calls the action that each command names, until standard input ends. */
export async function obey(actions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: action, ...details } = JSON.parse(line);
    actions[action](details);
  }
  process.exit();
}
