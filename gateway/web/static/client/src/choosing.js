import { webSockets } from './websocket.js';

const TRIES = 2;

/**
 * Opens WebSockets, and what there is in their place after two handshakes in a row without an answer.
 *
 * @param fallback `true` for the module beside this one, which is loaded when it is needed; or what that exports
 */
export function choosing(Socket, fallback) {
  let failed = Socket ? 0 : TRIES;
  let other;
  const openSocket = webSockets(Socket, (works) => {
    if (works) failed = 0;
    else if (globalThis.navigator?.onLine !== false) failed++;
  });
  return async (url, token) => {
    if (other?.hasSocket) {
      failed = 0;
      return other.takeSocket();
    }
    if (!fallback || failed < TRIES) return openSocket(url, token);
    // Where the network is away this fails, and some browsers never load it again: WebSockets are tried all the same.
    if (Socket) failed = TRIES - 1;
    const Class = fallback === true ? (await import('./client/fallback.js')).Fallback : fallback;
    failed = TRIES;
    // Where that is of no use either, it is not about WebSockets: one is tried between two attempts.
    other ??= new Class(openSocket, (works) => (failed = works ? TRIES : TRIES - 1));
    return other.open(url, token);
  };
}
