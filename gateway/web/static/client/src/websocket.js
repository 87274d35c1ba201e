/**
 * A transport: `send(text)`, `close()`, and the callbacks `onmessage(text)` and `onclose({ code, reason })`. Each
 * text is the JSON of one message or of an array. What else speaks the protocol has the same form, so nobody need know which it is.
 *
 * `told(works)` says whether a handshake was answered: a proxy may let none through.
 *
 * The token goes in as a subprotocol: a URL stands in the logs of proxies. Without a token the cookie has to do.
 */
export function webSockets(Socket, told = () => {}) {
  return (url, token) => {
    const socket = token === undefined ? new Socket(url) : new Socket(url, ['realtime', `bearer.${token}`]);
    const transport = {
      send: (text) => socket.send(text),
      close: () => socket.close(1000),
    };
    let works = false;
    let ended = false;
    const end = ({ code, reason }) => {
      if (ended) return;
      ended = true;
      if (!works) told(false);
      transport.onclose?.({ code: code || 1006, reason: reason ?? '' }); // Deno says 0
    };
    socket.onopen = () => told((works = true));
    socket.onmessage = ({ data }) => transport.onmessage?.(data);
    socket.onclose = end;
    socket.onerror = () => works || end({}); // Node 22 closes no socket that was never open
    return transport;
  };
}
