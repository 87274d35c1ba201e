import { webSocket } from './websocket.js';

const TRIES = 2;
const LASTS_MS = 10_000; // a proxy may let one through, and cut it soon
const PATIENCE_MS = 8_000; // a gateway under load answers later, so the handshake goes on

/**
 * Opens WebSockets, and what there is in their place after two in a row over which nothing was heard, or not for long. Where an
 * answer is waited for, both are tried side by side.
 *
 * @param fallback `true` for the module beside this one, which is loaded when it is needed; or what that exports
 */
export function choosing(url, Socket, fallback) {
  let failed = Socket ? 0 : TRIES;
  let other;
  try {
    // This tab has had to go over HTTP before: `fallback.js` remembers that.
    if (fallback && sessionStorage['realtime-http']) failed = TRIES;
  } catch {
    // There is no storage, or the browser refuses it.
  }
  const openSocket = (url, token, settled, begun = Date.now(), heard = false) =>
    webSocket(Socket, url, token, (works) => {
      const ms = Date.now() - begun;
      settled?.();
      if (works && !heard) {
        heard = true;
        begun += ms;
        failed &&= TRIES - 1;
        settled && other?.found?.(); // of a trial that is not known yet; while a deploy is under way it may be of another version
      } else if (heard && ms >= LASTS_MS) {
        failed = 0;
        // What the client leaves soon (the page is hidden, the network is another one) says nothing.
      } else if (!(works ?? (heard || ms < PATIENCE_MS)) && globalThis.navigator?.onLine !== false) {
        failed++;
      }
    });
  const load = async () => {
    const Class = typeof fallback === 'function' ? fallback : (await import('./client/fallback.js')).Fallback;
    return (other ??= new Class(Socket && openSocket, () => (failed = TRIES)));
  };
  return async (token) => {
    if (fallback && failed >= TRIES) {
      // Where nothing is heard over HTTP either, or its module cannot be loaded, it is not about WebSockets: the next is one.
      if (Socket) failed = TRIES - 1;
      return (await load()).open(url, token);
    }
    let timer;
    const transport = openSocket(url, token, () => (timer = clearTimeout(timer)));
    const beside = () => load().then((other) => timer && other.beside(transport, url, token), () => {});
    timer = fallback && setTimeout(beside, PATIENCE_MS);
    return transport;
  };
}
