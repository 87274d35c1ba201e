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
    socket.onopen = () => told((works = true));
    socket.onmessage = ({ data }) => transport.onmessage?.(data);
    socket.onclose = ({ code, reason }) => {
      if (!works) told(false);
      transport.onclose?.({ code, reason });
    };
    socket.onerror = () => {}; // a close follows; the package `ws` throws an error that nobody listens to
    return transport;
  };
}
